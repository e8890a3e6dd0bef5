# Installs Debian packages with dpkg itself, maintainer scripts included, and archives the result with its owners,
# modes, capabilities and extended attributes: $out/system.tar.
#
#   essential  the essential packages           packages  all others, in the order in which apt would unpack them
#   provided   dpkg status of what is provided from elsewhere
#   excludes   paths that no package may install, one pattern a line
#   epoch      time stamp of everything that the scripts make, in seconds
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true SOURCE_DATE_EPOCH=$epoch
target=/build/target
mkdir "$target"
for package in $essential; do
  # The first unpacking only makes the programs available that dpkg and the scripts below need.
  dpkg-deb --fsys-tarfile "$package" | tar --extract --preserve-permissions --keep-directory-symlink --directory "$target"
done
mkdir -p "$target"/var/lib/dpkg/{info,updates} "$target"/etc/dpkg/dpkg.cfg.d "$target"/usr/lib/x86_64-linux-gnu/libfakeroot
printf '%s' "$provided" > "$target/var/lib/dpkg/status"
: > "$target/var/lib/dpkg/available"
cp /usr/lib/x86_64-linux-gnu/libfakeroot/libfakeroot-sysv.so "$target/usr/lib/x86_64-linux-gnu/libfakeroot/"
# Nothing is running, and nothing must be started.
printf '#!/bin/sh\nexit 101\n' > "$target/usr/sbin/policy-rc.d"
chmod 755 "$target/usr/sbin/policy-rc.d"
{
  echo force-unsafe-io
  while read -r pattern; do echo "path-exclude=$pattern"; done <<< "$excludes"
  # Licences ask for their text to go with the program.
  echo 'path-include=/usr/share/doc/*/copyright'
} > "$target/etc/dpkg/dpkg.cfg.d/leveret"
for d in dev nix proc; do
  mkdir -p "$target/$d"
  mount --rbind "/$d" "$target/$d"
done

in_target() { chroot "$target" "$@"; }
say() { echo "leveret: $*"; }
say "installing the essential packages"
# Essential packages depend on each other in circles, which only the administrator may overrule.
in_target dpkg --force-depends --unpack $essential
in_target dpkg --force-depends --configure --pending
say "installing all other packages"
[ -z "$packages" ] || in_target dpkg --force-depends --unpack $packages
say "configuring them"
in_target dpkg --configure --pending


for d in dev nix proc; do umount --lazy "$target/$d"; rmdir "$target/$d" || true; done
mkdir -p "$target"/{dev,proc}
rm -r "$target/usr/sbin/policy-rc.d" "$target/etc/dpkg/dpkg.cfg.d/leveret" "$target/usr/lib/x86_64-linux-gnu/libfakeroot"
# What the first unpacking brought and dpkg.cfg excludes: dpkg doesn't know of it.
while read -r pattern; do
  case $pattern in
    */'*') find "$target/${pattern%/\*}" -mindepth 1 ! -type d ! -name copyright -delete 2> /dev/null || true
           find "$target/${pattern%/\*}" -mindepth 1 -depth -type d -empty -delete 2> /dev/null || true ;;
    *) rm -rf "${target:?}/$pattern" ;;
  esac
done <<< "$excludes"
# Made for this one machine, or telling when and where the build ran.
rm -f "$target"/etc/{machine-id,hostname,resolv.conf,.pwd.lock,passwd-,group-,shadow-,gshadow-,subuid-,subgid-} \
  "$target"/etc/ssh/ssh_host_* "$target"/var/lib/dbus/machine-id "$target"/var/lib/systemd/random-seed \
  "$target"/var/cache/ldconfig/aux-cache "$target"/var/cache/debconf/*-old "$target"/var/lib/dpkg/*-old
find "$target/var/log" "$target/run" "$target/tmp" "$target/var/tmp" -mindepth 1 ! -type d -delete
say "archiving the system"
mkdir "$out"
tar --create --file "$out/system.tar" --directory "$target" --sort=name --numeric-owner --format=posix \
  --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime --xattrs --xattrs-include='*' \
  --mtime="@$epoch" --clamp-mtime .
