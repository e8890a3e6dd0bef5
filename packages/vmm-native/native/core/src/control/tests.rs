use super::*;
use std::boxed::Box;
use std::vec::Vec;

fn frame(kind: u8, guest: u8, tag: u16, payload: &[u8]) -> Vec<u8> {
    let header = Header { length: payload.len(), kind, guest, tag };
    [&header.encode()[..], payload].concat()
}

/// A place for a frame, as `Box::new` would take its way over the stack.
fn place() -> Box<[u8; HEADER_SIZE + MAX_PAYLOAD]> {
    std::vec![0; HEADER_SIZE + MAX_PAYLOAD].into_boxed_slice().try_into().unwrap()
}

/// All frames that come out of pieces.
fn assemble<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<(Header, Vec<u8>)>, ControlError> {
    let mut place = place();
    let mut assembler = Assembler::new(&mut place);
    let mut frames = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            piece = &piece[assembler.feed(piece)?..];
            if let Some((header, payload)) = assembler.frame()? {
                frames.push((header, payload.to_vec()));
                assembler.drop_frame();
            }
        }
    }
    Ok(frames)
}

fn requests() -> Vec<(u8, Vec<u8>, Request<'static>)> {
    static HEADER: [u8; LINUX_HEADER_SIZE] = [7; LINUX_HEADER_SIZE];
    let number = |value: u64| value.to_le_bytes().to_vec();
    let load = [number(10), number(20), HEADER.to_vec(), b"quiet".to_vec()].concat();
    let (kernel_size, initrd_size) = (10, 20);
    std::vec![
        (1, std::vec![0, 1, 0, 0, 2, 1, 3], Request::Create { memory_mib: 256, processors: 2, disks: 1, cards: 3 }),
        (2, load, Request::LoadLinux { kernel_size, initrd_size, header: &HEADER, command_line: b"quiet" }),
        (3, std::vec![], Request::LoadFlat),
        (4, [number(4096), std::vec![16, 0, 0, 0]].concat(), Request::Read { address: 4096, length: 16 }),
        (5, [number(4096), std::vec![1, 2]].concat(), Request::Write { address: 4096, bytes: &[1, 2] }),
        (6, std::vec![], Request::Run),
        (7, std::vec![], Request::Pause),
        (8, std::vec![], Request::Reset),
        (9, std::vec![1], Request::Registers { processor: 1 }),
        (10, std::vec![1, 0x30], Request::Inject { processor: 1, vector: 0x30 }),
        (11, std::vec![], Request::Exits),
        (12, std::vec![1, b'x'], Request::Input { console: 1, bytes: b"x" }),
        (13, std::vec![], Request::Destroy),
        (14, std::vec![], Request::SelfTest),
        (15, std::vec![], Request::Save),
        (16, b"state".to_vec(), Request::Restore { state: b"state" }),
        (18, std::vec![1, 2, 3], Request::Fork { number: 1, disks: 2, cards: 3 }),
        (17, 9_u64.to_le_bytes().to_vec(), Request::Pages { address: 9 }),
    ]
}

#[test]
fn requests_are_what_their_bytes_say() {
    for (kind, payload, request) in requests() {
        assert_eq!(Request::decode(kind, &payload), Ok(request));
    }
}

#[test]
fn parts_of_requests_and_more_than_one_are_none() {
    for (kind, payload, request) in requests() {
        let rest = match request {
            Request::LoadLinux { command_line, .. } => command_line.len(),
            Request::Write { bytes, .. } | Request::Input { bytes, .. } | Request::Restore { state: bytes } => {
                bytes.len()
            }
            _ => {
                let longer = [&payload[..], &[0]].concat();
                assert_eq!(Request::decode(kind, &longer), Err(ControlError::Trailing(kind)));
                0
            }
        };
        for length in 0..payload.len() - rest {
            assert_eq!(Request::decode(kind, &payload[..length]), Err(ControlError::TooShort(kind)), "{request:?}");
        }
    }
    for kind in [0, 19, 0x80, u8::MAX] {
        assert_eq!(Request::decode(kind, &[]), Err(ControlError::UnknownKind(kind)));
    }
}

#[test]
fn frames_come_out_whole_however_they_come_in() {
    let largest = std::vec![9; MAX_PAYLOAD];
    let expected = [(6, 1, 1, &[][..]), (5, 2, 0xfffe, &[1, 2, 3]), (5, 0, 3, &largest), (7, 3, 4, &[])];
    let stream: Vec<u8> =
        expected.iter().flat_map(|(kind, guest, tag, payload)| frame(*kind, *guest, *tag, payload)).collect();
    for size in [1, 2, 7, 8, 9, 4096, stream.len()] {
        let frames = assemble(stream.chunks(size)).unwrap();
        let found: Vec<_> = frames.iter().map(|(it, payload)| (it.kind, it.guest, it.tag, &payload[..])).collect();
        assert_eq!(found, expected, "in pieces of {size}");
    }
    for length in 0..HEADER_SIZE {
        assert_eq!(assemble([&stream[..length]]), Ok(std::vec![]));
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_its_payload_comes() {
    let length = MAX_PAYLOAD as u32 + 1;
    for length in [length, u32::MAX] {
        let bytes = [&length.to_le_bytes()[..], &[5, 0, 0, 0]].concat();
        let mut place = place();
        let mut assembler = Assembler::new(&mut place);
        assert_eq!(assembler.feed(&bytes), Ok(HEADER_SIZE));
        assert_eq!(assembler.frame(), Err(ControlError::TooLong { length }));
        assert_eq!(assembler.feed(&[0]), Err(ControlError::TooLong { length }));
    }
}

#[test]
fn garbage_is_refused_or_is_a_request() {
    let mut state = 0x1234_5678_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random() % 900).map(|_| random() as u8).collect();
        let _ = Request::decode(random() as u8 % 20, &bytes);
        let mut framed = bytes;
        if let Some(length) = framed.first_chunk_mut::<4>() {
            *length = (random() as u32 % 1000).to_le_bytes();
        }
        for (header, payload) in assemble(framed.chunks(1 + random() % 300)).unwrap_or_default() {
            assert_eq!(header.length, payload.len());
        }
    }
}
