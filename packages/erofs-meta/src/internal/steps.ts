/**
 * Work that goes on without a promise for as long as its bytes are at hand, and yields one to be awaited where they are
 * not: a promise per inode takes longer than decoding it.
 */
export type Steps<T> = Generator<Promise<unknown>, T, void>;

/** Results that come one by one, with promises to be awaited among them. */
export type Stream<T> = Generator<T | Promise<unknown>, void, void>;

/** Runs steps to their end. */
export async function finish<T>(steps: Steps<T>): Promise<T> {
  for (let step = steps.next(); ; step = steps.next()) {
    if (step.done === true) return step.value;
    await step.value;
  }
}

/**
 * Hands out the results of a stream. What an async generator does, with one turn of the queue of promises a result
 * instead of three, which is most of the time a walk takes.
 */
export function streamed<T>(stream: Stream<T>): AsyncGenerator<T, void, void> {
  type Result = IteratorResult<T, void>;
  // What calls that come too early wait for.
  let last: Promise<Result> | undefined;
  const track = (result: Promise<Result>): Promise<Result> => {
    last = result;
    const forget = (): void => {
      if (last === result) last = undefined;
    };
    result.then(forget, forget);
    return result;
  };
  const inTurn = (step: () => Result | Promise<Result>): Promise<Result> => {
    if (last !== undefined) return track(last.then(step, step));
    try {
      const result = step();
      return result instanceof Promise ? track(result) : Promise.resolve(result);
    } catch (error) {
      return Promise.reject(error);
    }
  };
  const advance = (): Result | Promise<Result> => {
    const { value, done } = stream.next();
    if (done === true) return { value: undefined, done };
    if (!(value instanceof Promise)) return { value: value as T, done: false };
    return value.then(advance, (error: unknown) => {
      stream.return();
      throw error;
    });
  };
  const finishWith = (end: () => Result): Promise<Result> =>
    inTurn(() => {
      stream.return();
      return end();
    });
  return {
    next: () => inTurn(advance),
    return: () => finishWith(() => ({ value: undefined, done: true })),
    throw: (error: unknown) =>
      finishWith(() => {
        throw error;
      }),
    [Symbol.asyncIterator]() {
      return this;
    },
    async [Symbol.asyncDispose]() {
      await this.return();
    },
  };
}

/** Turns a promise into steps. */
export function* awaited<T>(promise: Promise<T>): Steps<T> {
  let result: { readonly value: T } | undefined;
  yield promise.then((value) => {
    result = { value };
  });
  if (result === undefined) throw new Error("bug: a step went on before its promise was there");
  return result.value;
}
