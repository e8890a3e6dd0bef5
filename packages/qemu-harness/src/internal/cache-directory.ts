// Environment read: XDG_CACHE_HOME, HOME (through the caller's environment).
import { join } from "node:path";

/** Where this package may keep what it can make again, or undefined for a user without a home. */
export function cacheDirectory(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const { XDG_CACHE_HOME: cache = "", HOME: home = "" } = env;
  if (cache.startsWith("/")) return join(cache, "leveret");
  return home.startsWith("/") ? join(home, ".cache", "leveret") : undefined;
}
