//! The serve loop, in memory: what a client asks over it is what the library gives, and whatever a line brings, the next good
//! request is answered.

mod common;

use std::collections::VecDeque;
use std::convert::Infallible;

use cliptext::prompt::Prompt;
use cliptext::serve::{
    Answer, Chunks, Client, ClientError, Counters, Encode, Numbers, Parts, Problem, Receiver, Request, Rows,
    SendError, Server, Text, Weighting,
};
use cliptext::threads::{Solo, Team};
use cliptext::{AlignedBytes, Encoder, Input, Plan, PlanFile, Source};
use common::{PROMPTS, one_tower, two_towers};
use embedded_io::{ErrorKind, ErrorType, Read, Write};

/// Numbers that are the same in every run (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// What a server writes.
#[derive(Default)]
struct Out(Vec<u8>);

impl ErrorType for Out {
    type Error = Infallible;
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        // As a UART does: not all at once.
        let taken = bytes.len().min(7);
        self.0.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }
    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A line with the server behind it: what is written it answers at once.
struct Line<'s, 'a, 'b, T, S> {
    server: &'s mut Server<'a, T, S>,
    receiver: Receiver<'b>,
    answers: VecDeque<u8>,
    /// What happens to what the client writes.
    damage: fn(&[u8]) -> Vec<u8>,
}

impl<T, S> ErrorType for Line<'_, '_, '_, T, S> {
    type Error = Infallible;
}

impl<T: Team, S: Source> Write for Line<'_, '_, '_, T, S> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let mut out = Out::default();
        self.server.feed(&mut self.receiver, &(self.damage)(bytes), &mut out).unwrap();
        self.answers.extend(out.0);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl<T: Team, S: Source> Read for Line<'_, '_, '_, T, S> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        let count = bytes.len().min(self.answers.len());
        for (byte, answer) in bytes.iter_mut().zip(self.answers.drain(..count)) {
            *byte = answer;
        }
        Ok(count)
    }
}

/// An embedding, as a client puts it together.
#[derive(Clone, Debug, Default, PartialEq)]
struct Got {
    text: Option<Text>,
    hidden: Vec<f32>,
    rows: Vec<u16>,
    pooled: Option<Vec<f32>>,
}

/// What is answered to a request with texts.
fn encode<T: Team, S: Source>(
    client: &mut Client<'_, Line<'_, '_, '_, T, S>>,
    asked: &Encode<'_>,
) -> Result<Vec<Got>, Problem> {
    client.ask(&Request::Encode(asked.clone())).unwrap();
    let mut got: Vec<Got> = Vec::new();
    loop {
        let numbers = |bytes: &[u8], columns: u32| {
            let mut row = vec![0.0; columns as usize];
            assert!(asked.numbers.read(bytes, &mut row));
            row
        };
        match client.answer().unwrap() {
            Answer::Text(text) => {
                assert_eq!(usize::from(text.text), got.len());
                got.push(Got { text: Some(text), ..Got::default() });
            }
            Answer::Row { text, row, values } => {
                assert_eq!(usize::from(text) + 1, got.len());
                let last = got.last_mut().unwrap();
                last.rows.push(row);
                last.hidden.extend(numbers(values, last.text.unwrap().columns));
            }
            Answer::Pooled { text, values } => {
                assert_eq!(usize::from(text) + 1, got.len());
                let columns =
                    values.len().checked_div(asked.numbers.bytes(2) - asked.numbers.bytes(1)).unwrap();
                let columns = if asked.numbers == Numbers::Int8 { columns - 4 } else { columns };
                got.last_mut().unwrap().pooled = Some(numbers(values, columns as u32));
            }
            Answer::Done { rows, .. } => {
                let sent: usize =
                    got.iter().map(|got| got.rows.len() + usize::from(got.pooled.is_some())).sum();
                assert_eq!(rows as usize, sent);
                return Ok(got);
            }
            Answer::Problem(problem) => return Err(problem),
            other => panic!("{other:?}"),
        }
    }
}

fn texts<'t>(texts: &[&'t str]) -> Encode<'t> {
    Encode { texts: texts.iter().copied().collect(), ..Encode::default() }
}

/// Runs `work` with a client of a server with the plan in `file`, whose arena takes `at_once` texts, and which has work memory
/// for `weighted` chunks.
fn with_client<R>(
    file: &PlanFile,
    (at_once, weighted): (usize, usize),
    work: impl FnOnce(&mut Client<'_, Line<'_, '_, '_, Solo, cliptext::plan::Resident<'_>>>, &Plan<'_>) -> R,
) -> R {
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(at_once));
    let encoder = Encoder::new(&plan, &mut arena).unwrap();
    let mut memory = match weighted {
        0 => Vec::new(),
        chunks => vec![0.0; Server::work_len(&encoder, chunks)],
    };
    let counters = Counters::new();
    let mut prompt = Prompt::new();
    let mut server = Server::new(encoder, &counters, &mut prompt).with_work(&mut memory).with_clock(|| 5);
    let (mut request, mut answer) = (vec![0; 2000], vec![0; 2000]);
    let line = Line {
        server: &mut server,
        receiver: Receiver::new(&mut request),
        answers: VecDeque::new(),
        damage: <[u8]>::to_vec,
    };
    work(&mut Client::new(line, &mut answer), &plan)
}

/// What the library gives for a text.
fn expected(plan: &Plan<'_>, input: Input<'_>) -> Got {
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(plan, &mut arena).unwrap();
    let embedding = encoder.encode_from(input, &mut ()).unwrap();
    let (rows, columns) = (embedding.tokens() as u16, embedding.width() as u32);
    Got {
        text: Some(Text { text: 0, rows, columns, truncated: embedding.is_truncated() }),
        hidden: embedding.hidden().to_vec(),
        rows: (0..rows).collect(),
        pooled: embedding.pooled().map(<[f32]>::to_vec),
    }
}

/// The same as text number `number` of a request.
fn numbered(mut got: Got, number: usize) -> Got {
    got.text = got.text.map(|text| Text { text: number as u8, ..text });
    got
}

#[test]
fn hello_and_statistics_say_what_there_is() {
    for (file, at_once, weighted) in [(one_tower(), 1, 0), (one_tower(), 16, 2), (two_towers(), 2, 8)] {
        with_client(&file, (at_once, weighted), |client, plan| {
            client.ask(&Request::Hello).unwrap();
            let Answer::Hello(hello) = client.answer().unwrap() else { panic!() };
            assert_eq!(hello.server, concat!("cliptext ", env!("CARGO_PKG_VERSION")));
            assert_eq!((hello.plan, &hello.hash), (plan.manifest().source, plan.hash().bytes()));
            assert_eq!((hello.context as usize, hello.width as usize), (plan.context(), plan.width()));
            assert_eq!(hello.pooled, plan.manifest().pooled.map_or(0, |place| place.columns));
            assert_eq!((hello.arena as usize, hello.at_once as usize), (plan.arena_bytes(at_once), at_once));
            assert_eq!((hello.texts, hello.chunks, hello.weighted_chunks as usize), (16, 8, weighted));
            assert_eq!((hello.frame, hello.kernels), (2000, plan.kernels().unwrap().name()));
            encode(client, &texts(&["a", "b"])).unwrap();
            encode(client, &texts(&[])).unwrap_err();
            client.ask(&Request::Statistics).unwrap();
            let Answer::Statistics(found) = client.answer().unwrap() else { panic!() };
            let rows = 2 * (plan.context() + usize::from(plan.manifest().pooled.is_some()));
            assert_eq!((found.answered, found.refused, found.texts, found.rows as usize), (2, 1, 2, rows));
        });
    }
}

#[test]
fn ids_are_the_tokenizers() {
    with_client(&one_tower(), (1, 0), |client, plan| {
        let long = "word ".repeat(300);
        for text in PROMPTS.into_iter().chain([long.as_str()]) {
            client.ask(&Request::Tokenize { text }).unwrap();
            let Answer::Tokens { ids, truncated } = client.answer().unwrap() else { panic!() };
            let ids: Vec<u32> = ids.as_chunks().0.iter().map(|&id| u32::from_le_bytes(id)).collect();
            let tokens = plan.tokenizer().encode(text);
            assert_eq!((&ids[..], truncated), (tokens.unpadded(), tokens.is_truncated()));
        }
    });
}

#[test]
fn rows_are_the_librarys_bit_for_bit() {
    for file in [one_tower(), two_towers()] {
        for at_once in [1, 2, 3, 16] {
            with_client(&file, (at_once, 0), |client, plan| {
                for unpadded in [false, true] {
                    let input = |text| if unpadded { Input::Unpadded(text) } else { Input::Text(text) };
                    let got = encode(client, &Encode { unpadded, ..texts(&PROMPTS) }).unwrap();
                    assert_eq!(got.len(), PROMPTS.len());
                    for (number, (got, prompt)) in got.into_iter().zip(PROMPTS).enumerate() {
                        assert!(got == numbered(expected(plan, input(prompt)), number), "{at_once} {prompt}");
                    }
                }
            });
        }
    }
}

#[test]
fn only_what_is_asked_for_is_sent() {
    with_client(&one_tower(), (2, 0), |client, plan| {
        let whole = expected(plan, Input::Text("a dog"));
        let columns = plan.width();
        let mut asked = Encode { rows: Some(Rows { first: 3, count: 2 }), ..texts(&["a dog"]) };
        let got = encode(client, &asked).unwrap().remove(0);
        assert_eq!((&got.rows[..], &got.hidden[..]), (&[3, 4][..], &whole.hidden[3 * columns..5 * columns]));
        assert_eq!((got.text, &got.pooled), (whole.text, &whole.pooled));
        asked.parts = Parts::Hidden;
        let got = encode(client, &asked).unwrap().remove(0);
        assert_eq!((got.rows.len(), got.pooled), (2, None));
        asked.parts = Parts::Pooled;
        let got = encode(client, &asked).unwrap().remove(0);
        assert_eq!((got.rows.len(), got.pooled), (0, whole.pooled));
        let end = plan.context() as u16;
        asked.parts = Parts::Both;
        asked.rows = Some(Rows { first: end - 1, count: 2 });
        assert_eq!(encode(client, &asked), Err(Problem::Rows { rows: end }));
        asked.rows = Some(Rows { first: u16::MAX, count: u16::MAX });
        assert_eq!(encode(client, &asked), Err(Problem::Rows { rows: end }));
    });
}

#[test]
fn shorter_numbers_are_near() {
    with_client(&one_tower(), (1, 0), |client, plan| {
        let whole = expected(plan, Input::Text("a dog"));
        for (numbers, error) in [(Numbers::F16, 1.0 / 2048.0), (Numbers::Int8, 1.001 / 254.0)] {
            let got = encode(client, &Encode { numbers, ..texts(&["a dog"]) }).unwrap().remove(0);
            for (row, exact) in got.hidden.chunks(plan.width()).zip(whole.hidden.chunks(plan.width())) {
                let largest = exact.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
                assert!(row.iter().zip(exact).all(|(row, exact)| (row - exact).abs() <= largest * error));
            }
            assert_eq!(got.pooled.map(|row| row.len()), whole.pooled.as_ref().map(Vec::len));
        }
    });
}

/// Prompts of several chunks, straight from the arena, by way of work memory, and beside others.
#[test]
fn chunks_are_those_of_a_prompt() {
    use cliptext::prompt;
    let long = "a very long prompt, ".repeat(30);
    let text = format!("{long} BREAK the end");
    for at_once in [1, 3] {
        with_client(&one_tower(), (at_once, 0), |client, plan| {
            let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
            let mut encoder = Encoder::new(plan, &mut arena).unwrap();
            let mut read = prompt::Prompt::new();
            let options =
                prompt::Options { chunks: prompt::Chunks::Auto, comma: 20, ..prompt::Options::default() };
            read.read(plan.tokenizer(), &text, options).unwrap();
            let chunks = read.chunks();
            assert!(chunks > 2);
            let mut hidden = vec![0.0; chunks * plan.context() * plan.width()];
            encoder.encode_prompt(&read, None, &mut hidden, None).unwrap();
            let asked = Encode { chunks: Chunks::Auto, comma: 20, ..texts(&[&text, "short"]) };
            let got = encode(client, &asked).unwrap();
            assert!(got[0].hidden == hidden && got[0].pooled.is_some() && !got[0].text.unwrap().truncated);
            assert_eq!(got[0].rows, (0..(chunks * plan.context()) as u16).collect::<Vec<_>>());
            assert_eq!(got[1].rows.len(), got[0].rows.len(), "both have as many");
            let short = expected(plan, Input::Text("short"));
            assert_eq!(got[1].hidden[..short.hidden.len()], short.hidden);
            let exactly = Encode { chunks: Chunks::Exactly(1), ..asked.clone() };
            assert!(encode(client, &exactly).unwrap()[0].text.unwrap().truncated);
            for chunks in [0, 9] {
                let asked = Encode { chunks: Chunks::Exactly(chunks), ..asked.clone() };
                assert_eq!(encode(client, &asked), Err(Problem::Chunks { limit: 8 }));
            }
            let asked = Encode { unpadded: true, ..asked };
            assert_eq!(encode(client, &asked), Err(Problem::Unpadded));
            let endless = "word ".repeat(380);
            let asked = Encode { chunks: Chunks::Auto, ..texts(&["a", &endless[..1900]]) };
            assert!(encode(client, &asked).is_ok());
        });
    }
}

#[test]
fn a_text_of_more_chunks_than_there_can_be_is_told() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let counters = Counters::new();
    let mut prompt = Prompt::new();
    let mut server = Server::new(Encoder::new(&plan, &mut arena).unwrap(), &counters, &mut prompt);
    let (mut request, mut answer) = (vec![0; 8000], vec![0; 2000]);
    let line = Line {
        server: &mut server,
        receiver: Receiver::new(&mut request),
        answers: VecDeque::new(),
        damage: <[u8]>::to_vec,
    };
    let mut client = Client::new(line, &mut answer);
    let endless = "dog ".repeat(1000);
    let asked = Encode { chunks: Chunks::Auto, ..texts(&["a", &endless]) };
    assert_eq!(encode(&mut client, &asked), Err(Problem::TextTooLong { text: 1, at: 4 * 600 }));
}

/// A frame with `message` as a client sends it.
fn frame(version: u8, id: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = [&[version, id][..], message].concat();
    let crc = cliptext::plan::format::crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    let mut frame = cobs::encode_vec(&bytes);
    frame.push(0);
    frame
}

/// What a server with an arena for the plan of one tower answers to `bytes`: the id and the problem of each answer, or `None` where it is another.
fn problems(bytes: &[u8]) -> Vec<(u32, Option<Problem>)> {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let counters = Counters::new();
    let mut prompt = Prompt::new();
    let mut server = Server::new(Encoder::new(&plan, &mut arena).unwrap(), &counters, &mut prompt);
    let mut request = [0; 64];
    let mut out = Out::default();
    server.feed(&mut Receiver::new(&mut request), bytes, &mut out).unwrap();
    let frames = out.0.split(|&byte| byte == 0).filter(|frame| !frame.is_empty());
    let of_frame = |frame: &[u8]| {
        let bytes = cobs::decode_vec(frame).unwrap();
        let (message, crc) = bytes.split_last_chunk::<4>().unwrap();
        assert_eq!(u32::from_le_bytes(*crc), cliptext::plan::format::crc32c(message));
        assert_eq!(message[0], 0x81);
        let (id, message) = postcard::take_from_bytes::<u32>(&message[1..]).unwrap();
        match postcard::from_bytes::<Answer<'_>>(message).unwrap() {
            Answer::Problem(problem) => (id, Some(problem)),
            _ => (id, None),
        }
    };
    frames.map(of_frame).collect()
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    let hello = frame(1, 9, &[0]);
    let long = frame(1, 7, &[&[1, 100][..], &[b'x'; 100]].concat());
    let mut flipped = hello.clone();
    flipped[4] ^= 4;
    for (bytes, answers) in [
        (hello.clone(), vec![(9, None)]),
        // The line.
        (vec![0, 0, 0], vec![]),
        (b"\0noise\0".to_vec(), vec![]),
        ([b"a line of a log\n\0", &hello[..]].concat(), vec![(0, Some(Problem::Damaged)), (9, None)]),
        (flipped, vec![(0, Some(Problem::Damaged))]),
        ([&long[..40], &[0], &hello[..]].concat(), vec![(0, Some(Problem::Damaged)), (9, None)]),
        ([&long[..], &hello[..]].concat(), vec![(7, Some(Problem::TooLong { limit: 64 })), (9, None)]),
        (
            [&[&[9; 5000][..], &[0]].concat(), &hello[..]].concat(),
            vec![(0, Some(Problem::Damaged)), (9, None)],
        ),
        // Versions and sides.
        (frame(2, 9, &[0]), vec![(9, Some(Problem::Version { speaks: 1 }))]),
        (frame(0x81, 9, &[0]), vec![]),
        // Messages.
        (frame(1, 9, &[4]), vec![(9, Some(Problem::Unknown))]),
        (frame(1, 9, &[0xff, 0xff]), vec![(9, Some(Problem::Unknown))]),
        (frame(1, 9, &[0, 0]), vec![(9, Some(Problem::Malformed))]),
        (frame(1, 9, &[1]), vec![(9, Some(Problem::Malformed))]),
        (frame(1, 9, &[1, 5, b'a']), vec![(9, Some(Problem::Malformed))]),
        (frame(1, 9, &[1, 2, 0xc3, 0x28]), vec![(9, Some(Problem::NotUtf8))]),
        (frame(1, 9, &[2, 0, 0, 0, 0, 0, 0, 0, 0]), vec![(9, Some(Problem::Texts { limit: 16 }))]),
        (frame(1, 9, &[&[2, 17][..], &[0; 24]].concat()), vec![(9, Some(Problem::Texts { limit: 16 }))]),
        (frame(1, 9, &[2, 1, 1, b'a', 3, 0, 0, 0, 0, 0, 0]), vec![(9, Some(Problem::Malformed))]),
        (frame(1, 9, &[2, 1, 1, b'a', 0, 0, 2, 0, 0, 0, 0]), vec![(9, Some(Problem::Malformed))]),
        (frame(1, 9, &[2, 1, 1, b'a', 0, 2, 0, 0, 9, 0, 0]), vec![(9, Some(Problem::Malformed))]),
    ] {
        assert_eq!(problems(&bytes), answers, "{bytes:02x?}");
    }
}

#[test]
fn weights_are_those_of_a_prompt() {
    use cliptext::prompt;
    let text = "a (very:1.3) [long] BREAK (dog)";
    for (weights, weighting) in
        [(Weighting::A1111, prompt::Weighting::A1111), (Weighting::Comfy, prompt::Weighting::Comfy)]
    {
        with_client(&one_tower(), (1, 2), |client, plan| {
            let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
            let mut encoder = Encoder::new(plan, &mut arena).unwrap();
            let mut read = prompt::Prompt::new();
            for (chunks, of_prompt) in
                [(Chunks::One, prompt::Chunks::One), (Chunks::Exactly(2), prompt::Chunks::Exactly(2))]
            {
                let options = prompt::Options { weighting, chunks: of_prompt, comma: 0 };
                read.read(plan.tokenizer(), text, options).unwrap();
                let mut hidden = vec![0.0; read.chunks() * plan.context() * plan.width()];
                encoder.encode_prompt(&read, None, &mut hidden, None).unwrap();
                let got = encode(client, &Encode { weights, chunks, ..texts(&[text]) }).unwrap();
                assert!(got[0].hidden == hidden);
                assert_eq!(got[0].pooled.is_some(), plan.manifest().pooled.is_some());
            }
            let asked = Encode { weights, chunks: Chunks::Exactly(3), ..texts(&[text]) };
            assert_eq!(encode(client, &asked), Err(Problem::Chunks { limit: 2 }));
            let asked = Encode { weights: Weighting::A1111, ..texts(&["a", "b (c:1.2.3)"]) };
            assert!(matches!(encode(client, &asked), Err(Problem::Reading { text: 1, at: 2.. })));
        });
        with_client(&one_tower(), (1, 0), |client, _| {
            let asked = Encode { weights, ..texts(&["(a)"]) };
            assert_eq!(encode(client, &asked), Err(Problem::Weights));
        });
    }
}

/// Random noise, frames that are cut, have bits flipped, or are too long, between good ones: every good one behind a zero is answered,
/// with the same bytes, however the bytes arrive.
#[test]
fn the_next_good_frame_is_answered_whatever_came_before() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let counters = Counters::new();
    let mut prompt = Prompt::new();
    let mut server = Server::new(Encoder::new(&plan, &mut arena).unwrap(), &counters, &mut prompt);
    let mut request = [0; 200];
    let mut receiver = Receiver::new(&mut request);
    let good = [
        frame(1, 1, &[0]),
        frame(1, 2, &[&[1, 5][..], b"a dog"].concat()),
        frame(1, 3, &[&[2, 1, 5][..], b"a dog", &[2, 0, 1, 0, 0, 0, 0]].concat()),
    ];
    let mut feed = |server: &mut Server<'_>, bytes: &[u8], pieces: &mut Random| {
        let (mut out, mut rest) = (Out::default(), bytes);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(1 + pieces.below(rest.len().min(70)));
            server.feed(&mut receiver, piece, &mut out).unwrap();
            rest = behind;
        }
        out.0
    };
    let mut random = Random(7);
    let answers: Vec<Vec<u8>> = good.iter().map(|frame| feed(&mut server, frame, &mut random)).collect();
    for round in 0..6000 {
        let mut bytes = Vec::new();
        for _ in 0..random.below(4) {
            let source = &good[random.below(good.len())];
            match random.below(5) {
                0 => bytes.extend((0..random.below(400)).map(|_| random.below(256) as u8)),
                1 => bytes.extend_from_slice(&source[..random.below(source.len())]),
                2 => bytes.extend_from_slice(&source[random.below(source.len())..]),
                3 => {
                    let at = bytes.len() + random.below(source.len());
                    bytes.extend_from_slice(source);
                    bytes[at] ^= 1 << random.below(8);
                }
                _ => bytes.extend((0..random.below(600)).map(|_| 1 + random.below(255) as u8)),
            }
        }
        bytes.push(0);
        feed(&mut server, &bytes, &mut random);
        let which = random.below(good.len());
        assert!(
            feed(&mut server, &good[which], &mut random) == answers[which],
            "round {round}: {bytes:02x?}"
        );
    }
    let found = counters.statistics();
    assert!(found.damaged > 1000 && found.too_long == 0 && found.skipped > 100, "{found:?}");
}

/// No damage of a few bits is taken for a request.
#[test]
fn flipped_bits_are_found() {
    let request = frame(1, 5, &[&[1, 21][..], b"a photo of a fat cat."].concat());
    let bits = (request.len() - 1) * 8;
    for first in 0..bits {
        for second in [first, (first + 1) % bits, (first * 7 + 3) % bits] {
            let mut bytes = request.clone();
            bytes[first / 8] ^= 1 << (first % 8);
            if second != first {
                bytes[second / 8] ^= 1 << (second % 8);
            }
            for (id, problem) in problems(&bytes) {
                assert_eq!((id, problem), (0, Some(Problem::Damaged)), "bits {first} {second}");
            }
        }
    }
}

/// A line that breaks: the server says so, and answers on the next one.
#[test]
fn a_line_that_fails_ends_and_the_next_is_served() {
    struct Broken(usize, bool);
    impl ErrorType for Broken {
        type Error = ErrorKind;
    }
    impl Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 && self.1 { Err(ErrorKind::BrokenPipe) } else { Ok(taken) }
        }
        fn flush(&mut self) -> Result<(), ErrorKind> {
            Ok(())
        }
    }
    impl Read for Broken {
        fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
            let request = frame(1, 3, &[&[2, 1, 5][..], b"a dog", &[0, 0, 0, 0, 0, 0, 0]].concat());
            bytes[..request.len()].copy_from_slice(&request);
            Ok(request.len())
        }
    }
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let counters = Counters::new();
    let mut prompt = Prompt::new();
    let mut server = Server::new(Encoder::new(&plan, &mut arena).unwrap(), &counters, &mut prompt);
    for (room, fails) in [(0, true), (1, true), (300, true), (5000, true), (0, false), (777, false)] {
        let mut request = [0; 64];
        let ended = server.serve(&mut Broken(room, fails), &mut Receiver::new(&mut request));
        let error = if fails { SendError::Line(ErrorKind::BrokenPipe) } else { SendError::Closed };
        assert_eq!(ended, Err(error));
    }
    let mut request = [0; 64];
    let mut out = Out::default();
    server.feed(&mut Receiver::new(&mut request), &frame(1, 1, &[0]), &mut out).unwrap();
    assert!(out.0.len() > 60);
}

/// Answers that are damaged on their way are found by the client, which asks again.
#[test]
fn a_client_finds_damage_both_ways() {
    with_client(&one_tower(), (1, 0), |client, _| {
        client.line().damage =
            |bytes| bytes.iter().map(|&byte| if byte == b'd' { b'e' } else { byte }).collect();
        assert_eq!(encode(client, &texts(&["a dog"])), Err(Problem::Damaged));
        client.line().damage = <[u8]>::to_vec;
        assert!(encode(client, &texts(&["a dog"])).is_ok());
        client.ask(&Request::Hello).unwrap();
        let at = client.line().answers.len() / 2;
        client.line().answers[at] ^= 8;
        assert!(matches!(client.answer(), Err(ClientError::Damaged)));
        client.line().answers.extend(b"\0some noise on the line without a zero");
        client.ask(&Request::Hello).unwrap();
        assert!(matches!(client.answer(), Err(ClientError::Damaged)));
        assert!(matches!(client.answer(), Ok(Answer::Hello(_))));
        assert!(matches!(client.answer(), Err(ClientError::Ended)));
    });
}

/// Constants that can't be read.
#[test]
fn a_storage_that_fails_is_told_and_the_next_request_works() {
    struct Card<'a> {
        plan: cliptext::plan::Resident<'a>,
        reads: std::cell::Cell<usize>,
    }
    impl Source for &mut Card<'_> {
        type Error = &'static str;
        fn get<const N: usize>(
            &mut self,
            extents: [cliptext::plan::Extent; N],
        ) -> Result<[&[u8]; N], Self::Error> {
            self.reads.set(self.reads.get() + 1);
            if self.reads.get() == 20 {
                return Err("pulled out");
            }
            let Ok(found) = self.plan.get(extents);
            Ok(found)
        }
    }
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut card = Card { plan: plan.constants(), reads: 0.into() };
    let kernels = plan.kernels().unwrap();
    let encoder = Encoder::over(plan.program(), &mut card, &mut arena, kernels, Solo).unwrap();
    let counters = Counters::new();
    let mut prompt = Prompt::new();
    let mut server = Server::new(encoder, &counters, &mut prompt);
    let (mut request, mut answer) = (vec![0; 200], vec![0; 2000]);
    let line = Line {
        server: &mut server,
        receiver: Receiver::new(&mut request),
        answers: VecDeque::new(),
        damage: <[u8]>::to_vec,
    };
    let mut client = Client::new(line, &mut answer);
    assert_eq!(encode(&mut client, &texts(&["a dog"])), Err(Problem::Storage));
    let got = encode(&mut client, &texts(&["a dog"])).unwrap();
    assert!(got[0] == expected(&plan, Input::Text("a dog")));
}

/// `docs/protocol.md` shows an exchange; `CLIPTEXT_WRITE_DOCS` writes it anew.
#[test]
fn the_protocols_page_shows_an_exchange() {
    let asked = Encode { rows: Some(Rows { first: 0, count: 1 }), parts: Parts::Hidden, ..texts(&["a dog"]) };
    let requests = [
        ("hello", Request::Hello),
        ("tokenize", Request::Tokenize { text: "a dog" }),
        ("encode", Request::Encode(Encode { numbers: Numbers::Int8, unpadded: true, ..asked })),
        ("a request of a kind that there is not", Request::Hello),
    ];
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let counters = Counters::new();
    // The kernels depend on the CPU, and their name is in the first answer.
    let kernels = cliptext::Kernels::named("scalar").unwrap();
    let encoder = Encoder::with(&plan, &mut arena, kernels, Solo).unwrap();
    let mut prompt = Prompt::new();
    let mut server = Server::new(encoder, &counters, &mut prompt);
    let (mut request, mut text) = ([0; 2048], String::new());
    let mut receiver = Receiver::new(&mut request);
    let lines = |who: &str, bytes: &[u8], text: &mut String| {
        for (index, line) in bytes.chunks(24).enumerate() {
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("{} {}\n", if index == 0 { who } else { " " }, hex.join(" ")));
        }
    };
    for (id, (what, request)) in (1..).zip(requests) {
        text.push_str(&format!("  {what}\n"));
        let message = match what.starts_with("a request") {
            true => vec![9],
            false => postcard::to_slice(&request, &mut [0; 100]).unwrap().to_vec(),
        };
        let bytes = [&[0][..], &frame(1, id, &message)].concat();
        lines(">", &bytes, &mut text);
        let mut out = Out::default();
        server.feed(&mut receiver, &bytes, &mut out).unwrap();
        for part in out.0.split_inclusive(|&byte| byte == 0) {
            lines("<", part, &mut text);
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once("```hex\n").unwrap();
    let (shown, behind) = rest.split_once("```").unwrap();
    if std::env::var_os("CLIPTEXT_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{before}```hex\n{text}```{behind}")).unwrap();
    } else {
        assert_eq!(shown, text);
    }
}
