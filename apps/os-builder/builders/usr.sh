# Makes the /usr file system out of the installed system and the description's own files: $out/usr.erofs.
#
#   configure  configure.sh, and what it takes     lines   repart.d of the root partition
#   uuid    of the file system                 compression  of mkfs.erofs
. "$configure"
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
