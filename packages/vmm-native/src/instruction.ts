import { callNative } from "./internal/binding.ts";

/** A general register by its number in instructions, or bits 15:8 of it. */
export interface InstructionRegister {
  /** 0 to 15, from rAX on */
  readonly register: number;
  /** whether it is AH, CH, DH or BH, of the register with the number */
  readonly highByte: boolean;
}

/** The operand that is not in memory: a register, or a constant with its sign extended to 64 bits. */
export type InstructionSource = InstructionRegister | { readonly constant: bigint };

/** How the address of an operand comes about. */
export interface InstructionAddress {
  /** segment register */
  readonly segment: "es" | "cs" | "ss" | "ds" | "fs" | "gs";
  /** number of a register, or the address of the next instruction */
  readonly base: number | "next-instruction" | undefined;
  /** register that is added some times */
  readonly index: { readonly register: number; readonly scale: number } | undefined;
  /** what is added besides, its sign extended to 64 bits */
  readonly displacement: bigint;
  /** `bytes` of the sum that count */
  readonly size: number;
}

/** Arithmetic with two operands. */
export type InstructionArithmetic = "add" | "or" | "adc" | "sbb" | "and" | "sub" | "xor" | "cmp" | "test";

/** What an instruction does with its operand in memory. */
export type InstructionOperation =
  | {
      readonly operation: "load";
      readonly to: InstructionRegister;
      readonly resultSize: number;
      readonly signed: boolean;
    }
  | { readonly operation: "store"; readonly from: InstructionSource }
  | { readonly operation: "modify"; readonly what: InstructionArithmetic; readonly from: InstructionSource }
  | { readonly operation: "combine"; readonly what: InstructionArithmetic; readonly to: InstructionRegister }
  | { readonly operation: "unary"; readonly what: "inc" | "dec" | "not" | "neg" }
  | { readonly operation: "exchange" | "exchange-add"; readonly to: InstructionRegister }
  | { readonly operation: "compare-exchange"; readonly from: InstructionRegister }
  | {
      readonly operation: "bit";
      readonly what: "test" | "set" | "reset" | "complement";
      readonly from: InstructionSource;
    }
  | {
      readonly operation: "string";
      readonly what: "move" | "store" | "load" | "input" | "output";
      readonly repeated: boolean;
    };

/** An instruction that accesses memory. */
export type Instruction = InstructionOperation & {
  /** `bytes` of the instruction */
  readonly length: number;
  /** `bytes` of the operand in memory */
  readonly size: number;
  /** the operand in memory; of MOVS the source */
  readonly address: InstructionAddress;
};

/**
 * Decodes an instruction that accesses memory as drivers do it on devices: a move, arithmetic, an exchange, a bit or a
 * string instruction.
 *
 * @param bytes - The instruction, and up to what follows it; 15 bytes are always enough.
 * @param mode - Size of the code segment, in `bits`.
 * @returns The instruction.
 * @throws {VmmError} `VMM_BAD_INSTRUCTION` when it is another one or a part of one, `VMM_BAD_ARGUMENT`, `VMM_NO_BINDING`.
 * @see AMD64 Architecture Programmer's Manual, volume 3
 * @example
 * decodeInstruction(Uint8Array.of(0x89, 0x07), 64); // mov [rdi], eax: { operation: "store", length: 2, size: 4, ... }
 */
export function decodeInstruction(bytes: Uint8Array, mode: 16 | 32 | 64): Instruction {
  return callNative("decodeInstruction", bytes, mode) as Instruction;
}
