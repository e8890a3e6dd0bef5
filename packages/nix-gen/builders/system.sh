# Installs Debian packages with dpkg itself, maintainer scripts included, and archives the result with its owners,
# modes, capabilities and extended attributes: $out/system.tar.
#
#   essentialPath  file with the list of essential packages
#   packagesPath   file with the list of all packages, in the order in which apt would unpack them
#   provided       dpkg status of what is provided from elsewhere
#   exclude        paths that no package may install, one pattern a line
#   epoch          time stamp of everything that the scripts make, in seconds
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true SOURCE_DATE_EPOCH=$epoch
target=/build/target
essential=$(< "$essentialPath") packages=
for package in $(< "$packagesPath"); do
  [[ " $essential " == *" $package "* ]] || packages+=" $package"
done
mkdir "$target"
for package in $essential; do
  # The first unpacking only makes the programs available that dpkg and the scripts below need.
  dpkg-deb --fsys-tarfile "$package" | tar --extract --preserve-permissions --keep-directory-symlink --directory "$target"
done
mkdir -p "$target"/var/lib/dpkg/{info,updates} "$target/etc/dpkg/dpkg.cfg.d"
printf '%s' "$provided" > "$target/var/lib/dpkg/status"
: > "$target/var/lib/dpkg/available"
fakeroot=$(echo /usr/lib/*/libfakeroot/libfakeroot-sysv.so)
mkdir -p "$target${fakeroot%/*}"
cp "$fakeroot" "$target$fakeroot"
# Nothing is running, and nothing must be started.
printf '#!/bin/sh\nexit 101\n' > "$target/usr/sbin/policy-rc.d"
chmod 755 "$target/usr/sbin/policy-rc.d"
{
  echo force-unsafe-io
  # Of a directory that is left out itself, dpkg wants everything below to be named too.
  printf '%s' "$exclude" | sed -e 's/^/path-exclude=/' -e '/[^*]$/{p;s|$|/*|}'
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
if [ -n "$packages" ]; then
  say "installing all other packages"
  in_target dpkg --force-depends --unpack $packages
fi
say "configuring them"
in_target dpkg --configure --pending

for d in dev nix proc; do
  umount --lazy "$target/$d"
  rmdir --ignore-fail-on-non-empty "$target/$d"
done
mkdir -p "$target"/{dev,proc}
rm -r "$target/usr/sbin/policy-rc.d" "$target/etc/dpkg/dpkg.cfg.d/leveret" "$target${fakeroot%/*}"
# What the first unpacking brought and dpkg.cfg excludes: dpkg doesn't know of it.
printf '%s' "$exclude" | while read -r pattern; do
  case $pattern in
    */'*')
      directory=$target${pattern%/\*}
      [ -d "$directory" ] || continue
      find "$directory" -mindepth 1 ! -type d ! -name copyright -delete
      find "$directory" -mindepth 1 -depth -type d -empty -delete
      ;;
    *) rm -rf "${target:?}/${pattern:?}" ;;
  esac
done
# Made for this one machine, or telling when and where the build ran.
rm -f "$target"/etc/{machine-id,hostname,resolv.conf,.pwd.lock,passwd-,group-,shadow-,gshadow-,subuid-,subgid-} \
  "$target"/etc/ssh/ssh_host_* "$target"/var/lib/dbus/machine-id "$target"/var/lib/systemd/random-seed \
  "$target"/var/cache/ldconfig/aux-cache "$target"/var/cache/debconf/*-old "$target"/var/lib/dpkg/*-old
for d in var/log run tmp var/tmp; do
  [ ! -d "$target/$d" ] || find "$target/$d" -mindepth 1 ! -type d -delete
done
say "archiving the system"
mkdir "$out"
tar --create --file "$out/system.tar" --directory "$target" --sort=name --numeric-owner --format=posix \
  --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime --xattrs --xattrs-include='*' \
  --mtime="@$epoch" --clamp-mtime .
