//! Whatever a server says, the client ends: with an answer, or with an error.
#![no_main]

mod line;

use cliptext::serve::{Client, ClientError, Request};
use libfuzzer_sys::fuzz_target;
use line::Line;

fuzz_target!(|data: &[u8]| {
    let incoming = line::bytes(data);
    let most = incoming.len() + 2;
    let mut line = Line { incoming: incoming.into(), ..Line::default() };
    let mut buffer = [0; 256];
    let mut client = Client::new(&mut line, &mut buffer);
    client.ask(&Request::Statistics).expect("a line that does not fail");
    for _ in 0..most {
        if let Err(ClientError::Ended) = client.answer() {
            return;
        }
    }
    panic!("more answers than there were bytes");
});
