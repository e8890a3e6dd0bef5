//! Where a virtio device's registers are, and what their bits mean (Virtual I/O Device specification 1.2, 2.1, 4.1 and 6).

/// BARs, and what is where in the one of memory.
pub mod place {
    pub const MEMORY_BAR: usize = 0;
    pub const MEMORY_SIZE: u64 = 0x2000;
    pub const NOTIFY_BAR: usize = 2;
    pub const NOTIFY_SIZE: u64 = 4;
    pub const COMMON: u64 = 0x000;
    pub const COMMON_SIZE: u64 = 0x38;
    pub const ISR: u64 = 0x100;
    pub const DEVICE: u64 = 0x200;
    pub const MSIX_TABLE: u32 = 0x1000;
    pub const MSIX_PENDING: u32 = 0x1800;
}

/// Types of capabilities (4.1.4).
pub mod capability {
    pub const VENDOR_SPECIFIC: u8 = 0x09;
    pub const COMMON: u8 = 1;
    pub const NOTIFY: u8 = 2;
    pub const ISR: u8 = 3;
    pub const DEVICE: u8 = 4;
    pub const WINDOW: u8 = 5;
    /// Offsets in a capability.
    pub const BAR: u16 = 4;
    pub const OFFSET: u16 = 8;
    pub const LENGTH: u16 = 12;
    pub const DATA: u16 = 16;
}

/// Offsets in the common configuration (4.1.4.3).
pub mod common {
    pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub const DEVICE_FEATURE: usize = 0x04;
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub const DRIVER_FEATURE: u64 = 0x0c;
    pub const CONFIG_VECTOR: u64 = 0x10;
    pub const QUEUES: usize = 0x12;
    pub const STATUS: u64 = 0x14;
    pub const QUEUE_SELECT: u64 = 0x16;
    pub const QUEUE_SIZE: u64 = 0x18;
    pub const QUEUE_VECTOR: u64 = 0x1a;
    pub const QUEUE_ENABLE: u64 = 0x1c;
    pub const QUEUE_DESCRIPTORS: u64 = 0x20;
    pub const QUEUE_AVAILABLE: u64 = 0x28;
    pub const QUEUE_USED: u64 = 0x30;
    pub const SIZE: usize = super::place::COMMON_SIZE as usize;
}

/// Bits of the device status (2.1).
pub mod status {
    pub const DRIVER_OK: u8 = 1 << 2;
    pub const FEATURES_OK: u8 = 1 << 3;
    pub const NEEDS_RESET: u8 = 1 << 6;
    /// ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, FAILED.
    pub const DRIVERS: u8 = 0x8f;
    pub const ALL: u8 = DRIVERS | NEEDS_RESET;
}

/// Features that do not depend on the device (6).
pub mod feature {
    pub const INDIRECT: u64 = 1 << 28;
    pub const EVENT_INDEX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;
    pub const ALL: u64 = INDIRECT | EVENT_INDEX | VERSION_1;
}

/// Bits of the ISR status (4.1.4.5).
pub mod isr {
    pub const QUEUE: u8 = 1 << 0;
    pub const CONFIGURATION: u8 = 1 << 1;
    pub const ALL: u8 = QUEUE | CONFIGURATION;
}
