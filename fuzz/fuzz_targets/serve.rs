//! Whatever a line brings, the server does not panic, and the next good request is answered right.
#![no_main]

mod line;

use std::cell::RefCell;
use std::sync::LazyLock;

use cliptext::prompt::Prompt;
use cliptext::serve::{Answer, Client, Counters, Receiver, Request, Server};
use cliptext::{ArenaBuf, Encoder, Plan, include_plan};
use libfuzzer_sys::fuzz_target;
use line::Line;

static PLAN: &[u8] = include_plan!("../../tests/fixtures/one-tower.plan");
static READ: LazyLock<Plan<'static>> = LazyLock::new(|| Plan::load(PLAN).expect("a plan of one tower"));
static COUNTERS: Counters = Counters::new();

thread_local! {
    static SERVER: RefCell<Server<'static>> = RefCell::new({
        // In one piece, which the leak detector finds again from the encoder.
        let arena = Box::leak(Box::new(ArenaBuf::<{ 1 << 20 }>::new())).bytes();
        let prompt = Box::leak(Box::new(Prompt::new()));
        let encoder = Encoder::new(&READ, arena).expect("an arena that is large enough");
        let work = vec![0.0; Server::work_len(&encoder, 2)].leak();
        Server::new(encoder, &COUNTERS, prompt).with_work(work)
    });
}

fuzz_target!(|data: &[u8]| {
    SERVER.with_borrow_mut(|server| {
        let mut request = [0; 512];
        let mut receiver = Receiver::new(&mut request);
        let mut answers = Line::default();
        server.feed(&mut receiver, &line::bytes(data), &mut answers).expect("a line that does not fail");
        // What a client of that line asks next.
        let mut asked = Line::default();
        let mut buffer = [0; 512];
        let mut client = Client::new(&mut asked, &mut buffer);
        client.ask(&Request::Tokenize { text: "a running dog" }).expect("a line that does not fail");
        let mut answer = Line::default();
        server.feed(&mut receiver, &asked.written, &mut answer).expect("a line that does not fail");
        let mut asked = Line { incoming: answer.written.into(), ..Line::default() };
        let mut buffer = [0; 512];
        let mut client = Client::new(&mut asked, &mut buffer);
        client.ask(&Request::Hello).expect("a line that does not fail");
        loop {
            match client.answer().expect("an answer") {
                // About what stood on the line before.
                Answer::Problem(_) => {}
                Answer::Tokens { ids, .. } => {
                    assert_eq!(ids, [49406u32, 320, 2761, 1929, 49407].map(u32::to_le_bytes).as_flattened());
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    });
});
