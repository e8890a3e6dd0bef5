# Makes the /usr file system out of the installed system and the description's own files: $out/usr.erofs.
#
#   installed     directory with system.tar          tree    the description's own files, or empty
#   enable, disable, mask  units                  release lines that are added to os-release
#   epoch      time stamp, in seconds             uuid    of the file system
#   compression  of mkfs.erofs                    lines   repart.d of the root partition
export SOURCE_DATE_EPOCH=$epoch
target=/build/target
mkdir "$target"
tar --extract --file "$installed/system.tar" --directory "$target" --preserve-permissions --numeric-owner \
  --xattrs --xattrs-include='*'
if [ -n "$tree" ]; then
  # The store keeps nothing of a mode but whether a file is executable.
  tar --create --directory "$tree" --owner=0 --group=0 --mode=u+w . |
    tar --extract --directory "$target" --keep-directory-symlink --no-overwrite-dir --preserve-permissions
  systemd-sysusers --root="$target"
  ldconfig -r "$target"
  rm -f "$target/var/cache/ldconfig/aux-cache"
fi

own_units=$([ -z "$tree" ] || find "$tree/usr/lib/systemd/system" "$tree/etc/systemd/system" -maxdepth 1 \
  -type f -regex '.*\.\(service\|socket\|timer\|path\|target\|mount\)' -printf '%f\n' 2> /dev/null | sort || true)
units() { systemctl --root="$target" --quiet "$@"; }
for unit in $own_units; do units preset "$unit"; done
for unit in $enable; do units enable "$unit"; done
for unit in $disable; do units disable "$unit"; done
for unit in $mask; do units mask "$unit"; done
# Presets that say what has just been decided, for a first boot that applies them and for a factory reset.
{
  units list-unit-files --no-legend --no-pager --state=enabled | while read -r unit _; do echo "enable $unit"; done
  echo 'disable *'
} > "$target/usr/lib/systemd/system-preset/00-leveret.preset"

while read -r line; do sed -i "/^${line%%=*}=/d" "$target/usr/lib/os-release"; done <<< "$release"
printf '%s' "$release" >> "$target/usr/lib/os-release"
mkdir -p "$target/usr/lib/repart.d"
printf '%s' "$lines" > "$target/usr/lib/repart.d/50-root.conf"

# Copies of a package database that isn't there.
rm -f "$target"/usr/lib/systemd/system/dpkg-db-backup.* "$target"/etc/systemd/system/*.wants/dpkg-db-backup.*
# Only /usr is in the image. /etc lies over these defaults from the first boot on; everything else is made from them.
rm -rf "$target/boot" "$target/usr/share/factory" "$target/usr/lib/systemd/boot" "$target/var/lib/dpkg" \
  "$target/var/lib/apt" "$target/var/cache" "$target/etc/.pwd.lock"
factory=$target/usr/share/factory
mkdir -p "$factory"
# Directories are listed one by one, so that each keeps its owner; files are copied once, when they are missing. What a
# package lists itself is left to it.
known=$(systemd-tmpfiles --root="$target" --cat-config --tldr --no-pager | sed -n 's/^[^ \t]*[ \t]\+"\?\([^ "\t]*\).*/\1/p')
for top in var root opt srv home; do
  [ -d "$target/$top" ] || continue
  (cd "$target" && find "$top" -mindepth 1 \( -type d -printf '/%p\td "/%p" 0%m %U %G -\n' \) -o \
    \( -type f -printf '/%p\tC "/%p" 0%m %U %G -\n' \) -o \( -type l -printf '/%p\tL "/%p" - - - - %l\n' \))
  cp -a "$target/$top" "$factory/$top"
done | LC_ALL=C sort | mawk -F '\t' -v known="$known" '
  BEGIN { split(known, paths, "\n"); for (i in paths) skip[paths[i]] = 1 }
  !($1 in skip) { print $2 }' > "$target/usr/lib/tmpfiles.d/leveret-factory.conf"
find "$factory/var" -type d -empty -delete 2> /dev/null || true
cp -a "$target/etc" "$factory/etc"
# Says that /etc and /var need no update from this /usr: caches in them were made with it.
touch --date="@$epoch" "$factory/etc/.updated"
echo 'f /var/.updated 0644 0 0 -' >> "$target/usr/lib/tmpfiles.d/leveret-factory.conf"

find "$target/usr" -newermt "@$epoch" -exec touch --no-dereference --date="@$epoch" {} +
touch --date="@$epoch" "$target/usr"
mkdir "$out"
mkfs.erofs --quiet -T "$epoch" --mkfs-time -U "$uuid" $compression "$out/usr.erofs" "$target/usr"
