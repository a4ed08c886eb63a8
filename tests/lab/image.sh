# Fills the image store of the root file system, on a machine made from it.
#
# The image is busybox under the name that everybody types. Every host reads this one store
# (additionalimagestores), so nothing is loaded when a host starts.
set -eu
store=/usr/lib/lab/images

mkdir /tmp/tree
chmod 755 /tmp/tree
cd /tmp/tree
mkdir -p bin dev etc proc root run sys tmp usr/bin var/www
chmod 1777 tmp
cp "$(command -v busybox)" bin/busybox
for applet in $(bin/busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "bin/$applet"
done
echo root:x:0:0:root:/root:/bin/sh >etc/passwd
echo root:x:0: >etc/group
# What Podman would else make: a rootless one could not, since root's files are nobody's to it.
ln -s /proc/mounts etc/mtab
touch etc/hosts etc/hostname etc/resolv.conf run/.containerenv
tar --create . | podman --root "$store" --storage-driver overlay import --quiet \
    --change 'CMD ["/bin/sh"]' - localhost/alpine:latest >/dev/null
chmod -R go+rX "$store" # the rootless user's Podman reads it too
