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
  return new Streamed(stream);
}

type Result<T> = IteratorResult<T, void>;

class Streamed<T> implements AsyncGenerator<T, void, void> {
  readonly #stream: Stream<T>;
  /** what calls that come too early wait for */
  #last: Promise<Result<T>> | undefined;

  constructor(stream: Stream<T>) {
    this.#stream = stream;
  }

  next(): Promise<Result<T>> {
    if (this.#last !== undefined) return this.#after(() => this.#advance());
    try {
      const result = this.#advance();
      return result instanceof Promise ? this.#track(result) : Promise.resolve(result);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  return(): Promise<Result<T>> {
    return this.#after(() => {
      this.#stream.return();
      return { value: undefined, done: true };
    });
  }

  throw(error: unknown): Promise<Result<T>> {
    return this.#after(() => {
      this.#stream.return();
      throw error;
    });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #advance(): Result<T> | Promise<Result<T>> {
    const { value, done } = this.#stream.next();
    if (done === true) return { value: undefined, done };
    if (!(value instanceof Promise)) return { value: value as T, done: false };
    return value.then(
      () => this.#advance(),
      (error: unknown) => {
        this.#stream.return();
        throw error;
      },
    );
  }

  #after(step: () => Result<T> | Promise<Result<T>>): Promise<Result<T>> {
    return this.#track(
      this.#last === undefined ? new Promise((resolve) => resolve(step())) : this.#last.then(step, step),
    );
  }

  #track(result: Promise<Result<T>>): Promise<Result<T>> {
    this.#last = result;
    const forget = (): void => {
      if (this.#last === result) this.#last = undefined;
    };
    result.then(forget, forget);
    return result;
  }
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
