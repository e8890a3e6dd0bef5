# Makes the initrd out of the installed system: systemd, and what the way from the firmware to /usr and / needs.
#
#   installed  directory with system.tar    functions  kernel.sh
#   files      directory with lists and units of the initrd itself
#   modules    kernel modules, with whatever they depend on
#   epoch      time stamp, in seconds
. "$functions"
target=/build/target initrd=/build/initrd
mkdir "$target" "$initrd"
tar --extract --file "$installed/system.tar" --directory "$target" --no-same-owner --no-same-permissions
mkdir -p "$initrd"/{dev,etc,proc,run,sys,sysroot,tmp,usr/{bin,lib,lib64,sbin},var}
for l in bin lib lib64 sbin; do ln -s "usr/$l" "$initrd/$l"; done

# Copies a path of the system, what it links to, and the libraries that it is linked with.
add() {
  local path=${1/#\/lib/\/usr\/lib} library
  [[ $path == /usr/* || $path == /etc/* ]] || path=/usr$path
  [ ! -e "$initrd$path" ] && [ ! -L "$initrd$path" ] || return 0
  [ -e "$target$path" ] || [ -L "$target$path" ] || { echo "expected $1 in the packages, found no such file"; exit 1; }
  mkdir -p "$initrd${path%/*}"
  if [ -L "$target$path" ]; then
    cp -P "$target$path" "$initrd$path"
    local link
    link=$(readlink "$target$path")
    [[ $link == /* ]] || link=${path%/*}/$link
    [ "$link" = /dev/null ] || add "$(realpath --no-symlinks --canonicalize-missing "$link")"
    return 0
  fi
  cp --preserve=mode "$target$path" "$initrd$path"
  [ "$(head -c 4 "$target$path" | tail -c 3)" = ELF ] || return 0
  # A shared object without libraries of its own makes the loader complain; that is no mistake.
  while read -r library; do
    [ -z "$library" ] || add "$library"
  done < <(chroot "$target" /lib64/ld-linux-x86-64.so.2 --list "$path" 2> /dev/null |
    sed -n 's/^[^/]*\(\/[^ ]*\) (0x[0-9a-f]*)$/\1/p')
}
while read -r path; do
  case $path in '' | '#'*) ;; *) add "$path" ;; esac
done < "$files/contents"
cp -r --no-preserve=mode,ownership "$files/units/." "$initrd/usr/lib/systemd/system/"
while read -r target_unit unit; do
  mkdir -p "$initrd/usr/lib/systemd/system/$target_unit.wants"
  ln -s "../$unit" "$initrd/usr/lib/systemd/system/$target_unit.wants/$unit"
done < "$files/wants"
ln -s initrd.target "$initrd/usr/lib/systemd/system/default.target"
ln -s usr/lib/systemd/systemd "$initrd/init"
cp "$target/usr/lib/os-release" "$initrd/etc/initrd-release"
ln -s initrd-release "$initrd/etc/os-release"
echo 'root:x:0:0:root:/root:/usr/sbin/nologin' > "$initrd/etc/passwd"
cp "$target/etc/group" "$target/etc/mke2fs.conf" "$initrd/etc/"
mkdir -p "$initrd/etc/systemd/system.conf.d"
# No journal runs in here: units write to the kernel's log, which the system's journal takes over.
printf '[Manager]\nDefaultStandardOutput=kmsg\nDefaultStandardError=kmsg\n' > "$initrd/etc/systemd/system.conf.d/log.conf"

find_kernel
module_dir=/usr/lib/modules/$release
mkdir -p "$initrd$module_dir"
module_files > /build/modules
while read -r file; do
  plain=$initrd${file#"$target"}
  mkdir -p "${plain%/*}"
  copy_module "$file" "${plain%.xz}"
done < /build/modules
cp "$target$module_dir"/modules.{builtin,builtin.modinfo,order} "$initrd$module_dir/"
depmod --basedir "$initrd/usr" "$release"

mkdir "$out"
archive "$initrd" | zstd --quiet -15 -T2 > "$out/initrd"
