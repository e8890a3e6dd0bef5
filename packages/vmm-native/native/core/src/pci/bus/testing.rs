use super::*;
use std::vec::Vec;

/// A function with a BAR of each kind that remembers what was written to them.
#[derive(Debug)]
pub struct TestDevice {
    function: Function,
    pub written: Vec<(usize, u64, u8, u64)>,
    pub message: Option<Command>,
    pub pin: bool,
}

impl TestDevice {
    pub fn new(device: u16) -> TestDevice {
        let mut function = Function::new(Identity {
            vendor: 0x1234,
            device,
            subsystem_vendor: 0,
            subsystem: 0,
            class: 0xff_00_00,
            revision: 0,
        });
        function.add_bar(0, Space::Memory64, 0x2000);
        function.add_bar(2, Space::Io, 0x20);
        function.add_bar(3, Space::Memory32, 0x1000);
        TestDevice { function, written: Vec::new(), message: None, pin: false }
    }
}

impl Device for TestDevice {
    fn function(&self) -> &Function {
        &self.function
    }

    fn function_mut(&mut self) -> &mut Function {
        &mut self.function
    }

    fn read_config(&mut self, offset: u16, size: u8) -> u64 {
        self.function.read(offset, size)
    }

    fn write_config(&mut self, offset: u16, size: u8, value: u64) {
        self.function.write(offset, size, value);
    }

    fn read_bar(&mut self, bar: usize, offset: u64, _: u8) -> u64 {
        (bar as u64) << 16 | offset
    }

    fn write_bar(&mut self, bar: usize, offset: u64, size: u8, value: u64) {
        self.written.push((bar, offset, size, value));
    }

    fn service(&mut self, _: &mut GuestMemory) {}

    fn take_message(&mut self) -> Option<Command> {
        self.message.take()
    }

    fn interrupt(&self) -> bool {
        self.pin
    }

    fn reset(&mut self) -> bool {
        self.function.reset();
        self.message.take().is_none()
    }

    fn save(&self, state: &mut Writer) -> Result<(), StateError> {
        self.function.save(state)
    }

    fn restore(&mut self, state: &mut Reader) -> Result<(), StateError> {
        self.function.restore(state)
    }
}
