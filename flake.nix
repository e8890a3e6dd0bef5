# For people who have nixpkgs. Nothing in this repository needs it: `npm start` works with Debian's own packages, and the
# flakes that leveret-os generates have no inputs at all.
#
#   nix develop        a shell with everything that building, booting and the tests call
#   nix build .#tools  the same programs as one tree
#
# What could be tested where this was written, without nixpkgs in reach: that Nix 2.8 and 2.26 parse it, and that it
# evaluates against a stand-in for nixpkgs with these attribute names. Not tested: the shell itself. The npm packages are
# not built here, because buildNpmPackage wants a URL for each of them, and package-lock.json names no registry on purpose.
{
  description = "Typed building blocks for operating systems and virtual machines";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.05";

  outputs =
    { self, nixpkgs }:
    let
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};

      # What building and booting an image calls; QEMU brings firmware with Secure Boot.
      runtime = [
        pkgs.apt
        pkgs.nix
        pkgs.nodejs_22
        pkgs.qemu
        pkgs.swtpm
        pkgs.util-linux
      ];

      # What the tests compare with, as in scripts/oracles.json.
      oracles = [
        pkgs.attr
        pkgs.cpio
        pkgs.cryptsetup
        pkgs.dosfstools
        pkgs.efitools
        pkgs.erofs-utils
        pkgs.gnupg
        pkgs.gptfdisk
        pkgs.libarchive
        pkgs.libxml2
        pkgs.mtools
        pkgs.openssl
        pkgs.osslsigncode
        pkgs.pkgsStatic.busybox
        pkgs.sbsigntool
        pkgs.systemd
      ];

      native = [
        pkgs.cargo
        pkgs.rustc
      ];
    in
    {
      packages.${system} = rec {
        default = tools;
        tools = pkgs.buildEnv {
          name = "leveret-tools";
          paths = runtime ++ oracles;
          pathsToLink = [
            "/bin"
            "/share"
          ];
          ignoreCollisions = true;
        };
      };

      devShells.${system}.default = pkgs.mkShell {
        packages = runtime ++ oracles ++ native;
        # The set-up then installs npm packages and nothing else.
        LEVERET_NO_APT = "1";
      };

      formatter.${system} = pkgs.nixfmt-rfc-style;
    };
}
