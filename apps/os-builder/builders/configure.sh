# Lays the description's own files over the installed system in $target, and decides about units; sourced by what makes
# file systems of it.
#
#   installed     directory with system.tar          tree    the description's own files, or empty
#   enable, disable, mask  units                  release lines that are added to os-release
#   epoch      time stamp, in seconds
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
