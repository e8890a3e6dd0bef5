# Runs $script as root of a private user namespace, inside of the tools' own file system, so that unmodified Debian
# programs find themselves at home. Executed by busybox, the only program that the sandbox has at first.
#
#   busybox   a static busybox              tools   unpacked Debian packages
#   script    what to run there, with bash  out     where its result goes
#   owners    "remembered" runs it under fakeroot, which keeps every owner, mode and device that is asked for: only
#             one user exists in the namespace, and Nix's sandbox refuses set-user-ID bits
b=$busybox
root=$NIX_BUILD_TOP/root
$b mkdir -p "$root"
export root
exec $b unshare --user --map-root-user --mount --propagation slave $b sh -euc '
  b=$busybox
  for d in build dev etc nix proc sys tmp usr var; do $b mkdir -p "$root/$d"; done
  for l in bin lib lib64 sbin; do $b ln -s "usr/$l" "$root/$l"; done
  # The order matters: /build holds the root itself, and must be bound before anything is mounted below it.
  $b mount --rbind "$NIX_BUILD_TOP" "$root/build"
  for d in dev nix proc sys; do
    if [ -d "/$d" ]; then $b mount --rbind "/$d" "$root/$d"; fi
  done
  $b mount --rbind "$tools/usr" "$root/usr"
  $b cp -a "$tools/etc/." "$root/etc/"
  # Programs take these for directories of theirs; a chroot further down would not have them.
  unset TMPDIR TEMPDIR TMP TEMP NIX_BUILD_TOP
  export HOME=/build LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin TZ=UTC0
  export FAKEROOTDONTTRYCHOWN=1
  [ "${owners:-}" = remembered ] && run=fakeroot-sysv || run=env
  cd "$root"
  exec $b chroot "$root" "$run" -- bash -eEuo pipefail -c "
    trap '\''echo \"leveret: \$BASH_COMMAND (line \$LINENO) failed\" >&2'\'' ERR
    . \"$script\"
  "
'
