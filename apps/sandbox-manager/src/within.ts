/**
 * Waits for something, and no longer than a limit.
 *
 * @param late - Makes what is thrown when the limit is over; what was waited for may still come to its end.
 */
export async function within<T>(timeoutMs: number, done: Promise<T>, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), timeoutMs);
  });
  try {
    return await Promise.race([done, limit]);
  } finally {
    clearTimeout(timer);
  }
}
