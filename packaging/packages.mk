# Installing: on this host, or as a package. What goes where is said once, in "files".

PREFIX       ?= /opt/netavark-geneve
SYSCONFDIR   ?= /etc
PLUGINDIR    ?= /usr/libexec/netavark
BINDIR       ?= /usr/local/sbin
DATADIR      ?= /usr/local/share
UNITDIR      ?= $(SYSCONFDIR)/systemd/system
PRESETDIR    ?= $(SYSCONFDIR)/systemd/system-preset
FIREWALLDDIR ?= $(SYSCONFDIR)/firewalld/services

# A package has no environment of its own: the interpreter is the distribution's, and our modules, with the bundled
# ones, are in a directory that no other program looks into.
PACKAGE_PYTHON ?= /usr/bin/python3
MODULES        ?= /usr/share/netavark-geneve
PACKAGE = SYSCONFDIR=/etc BINDIR=/usr/sbin DATADIR=/usr/share UNITDIR=/usr/lib/systemd/system \
    PRESETDIR=/usr/lib/systemd/system-preset FIREWALLDDIR=/usr/lib/firewalld/services

VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' netavark_geneve/__init__.py)
SPEC    := packaging/netavark-geneve.spec
# Packages are of the day of the spec's last change, so that the same source gives the same bits.
EPOCH = $(shell date -u -d "$$(sed -n '/^%changelog/{n;s/^\* \(... ... .. ....\).*/\1/p}' $(SPEC))" +%s)

.PHONY: install
install: ## install the plugin on this host, from this checkout
	$(PYTHON) -m venv $(PREFIX)
	$(PREFIX)/bin/python -m pip install .
	$(MAKE) files PLUGIN_SED='1s|.*|#!$(PREFIX)/bin/python -IS|' COMMAND=$(PREFIX)/bin/netavark-geneve
	install -d $(DESTDIR)$(BINDIR)
	ln -sf $(PREFIX)/bin/netavark-geneve $(DESTDIR)$(BINDIR)/netavark-geneve

.PHONY: install-package
install-package: # what a package contains, below DESTDIR
	$(MAKE) files $(PACKAGE) COMMAND=/usr/sbin/netavark-geneve \
	    PLUGIN_SED='1s|.*|#!$(PACKAGE_PYTHON) -IS|; s|^sys.path.append(.*|sys.path.append("$(MODULES)")|'
	install -d $(DESTDIR)/usr/sbin $(DESTDIR)$(MODULES)
	sed '1s|.*|#!$(PACKAGE_PYTHON) -I|; s|/usr/share/netavark-geneve|$(MODULES)|' packaging/netavark-geneve \
	    >$(DESTDIR)/usr/sbin/netavark-geneve
	chmod 755 $(DESTDIR)/usr/sbin/netavark-geneve
	find netavark_geneve -name '*.py' -exec install -D -m 644 {} $(DESTDIR)$(MODULES)/{} \;

.PHONY: files
files: # the one list; PLUGIN_SED and COMMAND say where the plugin and the units find the rest
	install -d $(addprefix $(DESTDIR),$(PLUGINDIR) $(UNITDIR))
	rm -f $(DESTDIR)$(PLUGINDIR)/geneve-ovs
	sed '$(PLUGIN_SED)' plugin-config/geneve-ovs >$(DESTDIR)$(PLUGINDIR)/geneve-ovs
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
deb: ## build dist/netavark-geneve_VERSION_all.deb, for Debian 13
	rm -rf build/deb
	$(MAKE) install-package DESTDIR=build/deb
	install -D -m 644 README.md packaging/debian/copyright -t build/deb/usr/share/doc/netavark-geneve
	gzip -9n <CHANGELOG.md >build/deb/usr/share/doc/netavark-geneve/changelog.gz
	find build/deb/usr/share/man -type f -exec gzip -9n {} +
	install -d build/deb/DEBIAN
	sed 's/@VERSION@/$(VERSION)/' packaging/debian/control >build/deb/DEBIAN/control
	install -m 755 packaging/debian/postinst packaging/debian/prerm packaging/debian/postrm -t build/deb/DEBIAN
	echo /etc/netavark-geneve/fabric.toml >build/deb/DEBIAN/conffiles
	cd build/deb && find usr -type f -exec md5sum {} + | sort -k 2 >DEBIAN/md5sums
	chmod -R u=rwX,go=rX build/deb
	install -d dist
	dpkg-deb --root-owner-group -Zxz --build build/deb dist
