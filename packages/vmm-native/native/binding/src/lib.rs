//! The hypervisor's core for Node, by Node-API (nodejs.org, "Node-API", version 6) and nothing else.
//!
//! | file | what it does |
//! | --- | --- |
//! | `node.rs` | values of JavaScript to values of Rust and back: the only module with unsafe code |
//! | `functions.rs` | what JavaScript can call, by its name |
//! | `vmcb.rs`, `instruction.rs`, `tables.rs`, `linux.rs` | what these do |
//!
//! `src/native.ts` gives each of them types; nothing else calls them.

#![deny(unsafe_code)]

mod functions;
mod instruction;
mod linux;
mod node;
mod tables;
mod value;
mod vmcb;
