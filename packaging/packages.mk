# Installing: on this host, or as a package. What goes where is said once, in "files".

PREFIX       ?= /opt/netavark-geneve
SYSCONFDIR   ?= /etc
PLUGINDIR    ?= /usr/libexec/netavark
BINDIR       ?= /usr/local/sbin
DATADIR      ?= /usr/local/share
UNITDIR      ?= $(SYSCONFDIR)/systemd/system
PRESETDIR    ?= $(SYSCONFDIR)/systemd/system-preset
FIREWALLDDIR ?= $(SYSCONFDIR)/firewalld/services
COMMAND       = $(PREFIX)/bin/netavark-geneve
PLUGIN_EDIT   = 1s|.*|\#!$(PREFIX)/bin/python -IS|

BUILD   ?= build
DIST    ?= dist
SOURCES  = build/sources
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' netavark_geneve/__init__.py)
SPEC    := packaging/netavark-geneve.spec
# Packages are of the day of the spec's last entry, so that the same source gives the same bits.
EPOCH   := $(shell date -u -d "$$(sed -n '/^%changelog/{n;s/^\* \(... ... .. ....\).*/\1/p}' $(SPEC))" +%s)

.PHONY: install
install: files ## install the plugin on this host, from this checkout
	$(PYTHON) -m venv $(PREFIX)
	$(PREFIX)/bin/python -m pip install .
	install -d $(DESTDIR)$(BINDIR)
	ln -sf $(COMMAND) $(DESTDIR)$(BINDIR)/netavark-geneve

# A package has no environment of its own: the interpreter is the distribution's, and our modules are, with the bundled
# ones, where no other program looks for modules and where the version of Python is not part of the path.
.PHONY: install-package
install-package: PACKAGE_PYTHON = /usr/bin/python3
install-package: BINDIR = /usr/sbin
install-package: DATADIR = /usr/share
install-package: MODULES = $(DATADIR)/netavark-geneve
install-package: UNITDIR = /usr/lib/systemd/system
install-package: PRESETDIR = /usr/lib/systemd/system-preset
install-package: FIREWALLDDIR = /usr/lib/firewalld/services
install-package: COMMAND = $(BINDIR)/netavark-geneve
install-package: PLUGIN_EDIT = 1s|.*|\#!$(PACKAGE_PYTHON) -IS|; s|^sys.path.append(.*|sys.path.append("$(MODULES)")|
install-package: files # what a package contains, below DESTDIR
	install -d $(DESTDIR)$(BINDIR)
	sed '1s|/usr/bin/python3|$(PACKAGE_PYTHON)|; s|/usr/share/netavark-geneve|$(MODULES)|' packaging/netavark-geneve \
	    >$(DESTDIR)$(COMMAND)
	chmod 755 $(DESTDIR)$(COMMAND)
	find netavark_geneve -name '*.py' -exec install -D -m 644 {} $(DESTDIR)$(MODULES)/{} \;

.PHONY: files
files: # the one list
	install -d $(addprefix $(DESTDIR),$(PLUGINDIR) $(UNITDIR))
	rm -f $(DESTDIR)$(PLUGINDIR)/geneve-ovs
	sed '$(PLUGIN_EDIT)' plugin-config/geneve-ovs >$(DESTDIR)$(PLUGINDIR)/geneve-ovs
	chmod 755 $(DESTDIR)$(PLUGINDIR)/geneve-ovs
	for unit in $(notdir $(wildcard packaging/systemd/*)); do \
	    sed 's|/opt/netavark-geneve/bin/netavark-geneve|$(COMMAND)|' packaging/systemd/$$unit \
	        >$(DESTDIR)$(UNITDIR)/$$unit && chmod 644 $(DESTDIR)$(UNITDIR)/$$unit || exit; done
	install -D -m 644 packaging/90-netavark-geneve.preset -t $(DESTDIR)$(PRESETDIR)
	install -D -m 644 packaging/netavark-geneve.xml -t $(DESTDIR)$(FIREWALLDDIR)
	install -D -m 644 packaging/netavark-geneve.bash $(DESTDIR)$(DATADIR)/bash-completion/completions/netavark-geneve
	for page in 5 7 8; do \
	    install -D -m 644 docs/man/*.$$page -t $(DESTDIR)$(DATADIR)/man/man$$page || exit; done
	config=$(DESTDIR)$(SYSCONFDIR)/netavark-geneve/fabric.toml; [ -e $$config ] || { \
	    install -D -m 644 plugin-config/fabric.toml $$config && sed -i 's/^[a-z]/#&/' $$config; }

.PHONY: deb
deb: export SOURCE_DATE_EPOCH = $(EPOCH)
deb: ## build dist/*.deb, for Debian 13
	rm -rf $(BUILD)/deb
	$(MAKE) install-package DESTDIR=$(BUILD)/deb
	install -D -m 644 README.md packaging/debian/copyright -t $(BUILD)/deb/usr/share/doc/netavark-geneve
	gzip -9n <CHANGELOG.md >$(BUILD)/deb/usr/share/doc/netavark-geneve/changelog.gz
	find $(BUILD)/deb/usr/share/man -type f -exec gzip -9n {} +
	install -d $(BUILD)/deb/DEBIAN
	sed 's/@VERSION@/$(VERSION)/' packaging/debian/control >$(BUILD)/deb/DEBIAN/control
	install -m 755 packaging/debian/postinst packaging/debian/prerm packaging/debian/postrm -t $(BUILD)/deb/DEBIAN
	echo /etc/netavark-geneve/fabric.toml >$(BUILD)/deb/DEBIAN/conffiles
	cd $(BUILD)/deb && find usr -type f -exec md5sum {} + | sort -k 2 >DEBIAN/md5sums
	chmod -R u=rwX,go=rX $(BUILD)/deb
	install -d $(DIST)
	dpkg-deb --root-owner-group -Zxz --build $(BUILD)/deb $(DIST)

# Debian's rpm lacks macros, and its database knows nothing of what dpkg installed.
MACROS   = $(if $(wildcard /etc/debian_version),--nodeps --load packaging/macros)

# A program, and the Debian package that it is in.
need = command -v $(1) >/dev/null || { apt-get update -q && apt-get install -qy --no-install-recommends $(2); }

.PHONY: rpm
rpm: export SOURCE_DATE_EPOCH = $(EPOCH)
rpm: $(SOURCES)/fetched ## build dist/*.rpm; RPMFLAGS="--with bundled" puts the Python libraries into it
	$(call need,rpmbuild,rpm)
	tar --create --gzip --file $(SOURCES)/netavark-geneve-$(VERSION).tar.gz --transform 's|^|netavark-geneve-$(VERSION)/|' \
	    --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime=@$(EPOCH) --exclude=__pycache__ \
	    netavark_geneve plugin-config packaging docs Makefile README.md CHANGELOG.md LICENSE
	find $(SOURCES) -type f ! -name fetched -exec touch -d @$(EPOCH) {} +
	rpmbuild -ba $(MACROS) $(RPMFLAGS) --define '_topdir $(abspath $(BUILD))/rpm' --define '_sourcedir $(abspath $(SOURCES))' \
	    --define '_rpmdir $(abspath $(DIST))' --define '_srcrpmdir $(abspath $(DIST))' --define '_build_name_fmt %%{nvra}.rpm' \
	    --define '_buildhost localhost' --define 'use_source_date_epoch_as_buildtime 1' \
	    --define 'clamp_mtime_to_source_date_epoch 1' $(SPEC)

$(SOURCES)/fetched: packaging/requirements.txt | $(VENV)/ready
	rm -rf $(SOURCES)
	$(RUN) -m pip download -q --no-deps --require-hashes -r packaging/requirements.txt -d $(SOURCES)
	touch $@

.PHONY: package-test
package-test: $(VENV)/ready $(SOURCES)/fetched ## build the packages, install them on hosts of the lab, upgrade, remove
	$(call need,rpmbuild,rpm)
	$(call need,rpmlint,rpmlint)
	$(RUN) -m pytest -q tests/packaging
