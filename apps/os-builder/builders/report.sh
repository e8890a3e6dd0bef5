# Tells the host what this boot verified, as read inside of the machine: one `name=value` a line. It comes into the
# machine as a systemd credential; no image contains it.
exec > /dev/virtio-ports/report 2> /dev/null
efi() { od --address-radix=n --format=u1 --skip-bytes=4 --read-bytes=1 "/sys/firmware/efi/efivars/$1-8be4df61-93ca-11d2-aa0d-00e098032b8c" | tr -d ' '; }
pcr() { tr '[:upper:]' '[:lower:]' < "/sys/class/tpm/tpm0/pcr-sha256/$1"; }
# The last words of each unit that failed, on one line.
reasons() {
  for unit in $(failed); do
    journalctl --boot --output=cat --no-pager _SYSTEMD_UNIT="$unit" | tail -n 3
    systemctl show --property=Result --value "$unit"
  done | tr '\n' ';'
}
failed() { systemctl list-units --state=failed --no-legend --plain | cut -d ' ' -f 1; }
. /etc/os-release
echo "report=begin"
echo "state=$(systemctl is-system-running --wait)"
echo "failed-units=$(failed | tr '\n' ' ')"
echo "failed-reasons=$(reasons)"
echo "image-id=$IMAGE_ID"
echo "image-version=$IMAGE_VERSION"
echo "kernel=$(uname -r)"
echo "systemd=$(systemctl --version | head -n 1)"
echo "secure-boot=$(efi SecureBoot)"
echo "setup-mode=$(efi SetupMode)"
echo "lockdown=$(cat /sys/kernel/security/lockdown)"
echo "usr-mount=$(findmnt --noheadings --output SOURCE,FSTYPE,OPTIONS /usr)"
echo "usr-table=$(dmsetup table usr)"
echo "usr-status=$(dmsetup status usr)"
echo "etc-mount=$(findmnt --noheadings --output FSTYPE /etc)"
echo "root-mount=$(findmnt --noheadings --output SOURCE,FSTYPE /)"
echo "tpm-version=$(cat /sys/class/tpm/tpm0/tpm_version_major)"
for index in 0 1 2 3 4 5 7 9 11 12 13 15; do echo "pcr-$index=$(pcr $index)"; done
echo "event-log=$(base64 --wrap=0 < /sys/kernel/security/tpm0/binary_bios_measurements)"
echo "userspace-log=$(base64 --wrap=0 < /run/log/systemd/tpm2-measure.log)"
echo "times=$(systemd-analyze time | head -n 1)"
echo "report=end"
