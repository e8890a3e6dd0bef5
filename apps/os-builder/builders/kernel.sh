# What every builder needs to know of the kernel of the installed system. Functions of $target, its root, and $modules, the
# kernel modules that are wanted.

# Sets `kernel`, its file, and `release`, its version.
find_kernel() {
  local kernels=("$target"/boot/vmlinuz-*)
  [ ${#kernels[@]} = 1 ] || { echo "expected one kernel in the packages, got ${kernels[*]}"; exit 1; }
  kernel=${kernels[0]}
  release=${kernel##*/vmlinuz-}
}

# Prints the files of the modules and of whatever they depend on, each after those that it needs, and once.
module_files() {
  local module
  for module in $modules; do
    modprobe --dirname "$target/usr" --set-version "$release" --show-depends "$module" > /build/depends ||
      { echo "expected the kernel module $module in $release, found none" >&2; exit 1; }
    sed -n 's/^insmod \([^ ]*\).*/\1/p' /build/depends
  done | mawk '!known[$0]++'
}

# Copies a module, without its compression: the whole initrd is compressed, once.
copy_module() {
  case $1 in *.xz) xz --decompress --stdout "$1" > "$2" ;; *) cp "$1" "$2" ;; esac
}

# Prints the archive of a directory, as the kernel takes it, with nothing in it that differs from one build to the next.
archive() {
  cd "$1"
  find . -exec touch --no-dereference --date="@$epoch" {} +
  find . -mindepth 1 -print0 | LC_ALL=C sort -z | cpio --null --create --format=newc --owner=0:0 --reproducible --quiet
}
