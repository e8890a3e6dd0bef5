import { describe, expect, test } from "vitest";
import {
  debianRequest,
  imageEpochSeconds,
  imageName,
  imageSeed,
  initrdModules,
  providedPackages,
  releaseLines,
  rootDefinition,
  seededBytes,
} from "../src/plan.ts";
import { configOf, TINY, TINY_LOCK } from "./support/system.ts";

describe("a plan", () => {
  test("asks Debian for what every image needs, the kernel and the description's packages, once each", () => {
    const request = debianRequest(configOf({ ...TINY, packages: ["less", "systemd", "less"] }));
    expect(request).toMatchSnapshot();
    const packages = request.sets.system?.packages ?? [];
    expect(packages.filter((name) => name === "less" || name === "systemd")).toEqual(["less", "systemd"]);
    expect(packages).toEqual([...packages].sort());
    expect(request.sets.system?.provided).toEqual(providedPackages());
  });

  test("takes the kernel's package from the description", () => {
    const request = debianRequest(configOf({ ...TINY, kernel: { package: "linux-image-amd64" } }));
    expect(request.sets.system?.packages).toContain("linux-image-amd64");
    expect(request.sets.system?.packages).not.toContain("linux-image-cloud-amd64");
  });

  test("adds the description's kernel modules to those on the way to /usr", () => {
    const modules = initrdModules(configOf({ ...TINY, initrd: { modules: ["ahci", "erofs"] } }));
    expect(modules).toEqual(expect.arrayContaining(["ahci", "dm_verity", "erofs"]));
    expect(modules).not.toContain("nvme");
    expect(modules).toEqual([...new Set(modules)].sort());
  });

  test("names the image", () => {
    const config = configOf({ ...TINY, name: "Tiny OS" });
    expect(imageName(config)).toBe("tiny_1.0");
    expect(releaseLines(config)).toBe('PRETTY_NAME="Tiny OS 1.0"\nIMAGE_ID="tiny"\nIMAGE_VERSION="1.0"\n');
    expect(releaseLines(configOf(TINY))).toBe('IMAGE_ID="tiny"\nIMAGE_VERSION="1.0"\n');
    expect(imageEpochSeconds(TINY_LOCK)).toBe(Date.UTC(2026, 0, 2, 3, 4, 6) / 1000);
  });

  test("has a definition of the root partition that fits the room there is", () => {
    expect(rootDefinition(configOf(TINY))).toMatchSnapshot();
  });
});

describe("seeded bytes", () => {
  test("are the same for the same name and image, and others for every other", () => {
    const seed = imageSeed(configOf(TINY));
    expect(Buffer.from(seededBytes(seed, "salt", 8)).toString("hex")).toBe("5fc55618e5a0a9e2");
    expect(seededBytes(seed, "salt", 32)).toEqual(seededBytes(seed, "salt", 32));
    expect(seededBytes(seed, "pepper", 32)).not.toEqual(seededBytes(seed, "salt", 32));
    expect(seededBytes(imageSeed(configOf({ ...TINY, version: "2" })), "salt", 32)).not.toEqual(
      seededBytes(seed, "salt", 32),
    );
  });
});
