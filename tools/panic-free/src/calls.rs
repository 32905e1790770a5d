//! What a device calls: load, tokenize, encode, read prompts and packs, stream, serve.

use cliptext::prompt::{Chunks, Options, Prompt, Weighting};
use cliptext::serve::{Counters, Receiver, Server};
use cliptext::stream::Stream;
use cliptext::threads::{Crew, Solo};
use cliptext::{Encoder, ImageEncoder, ImagePlan, Input, Kernels, LoadError, Pack, PackError, Plan, Program};

use crate::outside::{Card, Port};

/// What `_start` is given.
#[repr(C)]
struct Given {
    plan: &'static [u8],
    pack: &'static [u8],
    text: &'static str,
    ids: &'static [u32],
    arena: &'static mut [u8],
    buffer: &'static mut [u8],
    request: &'static mut [u8],
    work: &'static mut [f32],
    states: &'static mut [f32],
    prompt: &'static mut Prompt,
    port: Port,
    options: [u8; 4],
    workers: usize,
    what: u8,
}

static COUNTERS: Counters = Counters::new();
static CREW: Crew = Crew::new(4, core::hint::spin_loop, || ());

#[unsafe(no_mangle)]
extern "C" fn _start(given: &'static mut Given) {
    match given.what {
        0 => drop(load(given)),
        1 => drop(pack(given)),
        2 => CREW.join(),
        4 => drop(images(given)),
        #[cfg(feature = "deliberate")]
        3 => given.port.0 = given.pack[given.workers] as *mut u8,
        _ => drop(stream(given)),
    }
}

/// The kernels that the outside names.
fn kernels(what: u8) -> Option<Kernels> {
    let name = match what {
        0 => "neon",
        1 => "dotprod",
        2 => "i8mm",
        3 => return Kernels::available().next(),
        _ => "scalar",
    };
    // SAFETY: it is not run.
    unsafe { Kernels::assume(name) }.ok()
}

fn load(given: &'static mut Given) -> Result<(), LoadError> {
    let plan = Plan::load(given.plan)?;
    let tokens = plan.tokenizer().encode(given.text);
    given.states.iter_mut().zip(tokens.ids()).for_each(|(state, id)| *state = *id as f32);
    let Some(kernels) = kernels(given.options[0]).or(plan.kernels().ok()) else { return Ok(()) };
    if given.workers == 1 {
        if let Ok(encoder) = Encoder::with(&plan, given.arena, kernels, Solo) {
            encode(encoder, given.text, given.ids, given.states);
        }
        return Ok(());
    }
    let Ok(mut encoder) = Encoder::with(&plan, given.arena, kernels, &CREW) else { return Ok(()) };
    prompt(&mut encoder, given.prompt, given.text, given.options, given.states);
    let mut server = Server::new(encoder, &COUNTERS, given.prompt).with_work(given.work);
    let _ = server.serve(&mut given.port, &mut Receiver::new(given.request));
    Ok(())
}

fn images(given: &'static mut Given) -> Result<(), LoadError> {
    let plan = ImagePlan::load(given.plan)?;
    let Some(kernels) = kernels(given.options[0]).or(plan.kernels().ok()) else { return Ok(()) };
    let Ok(mut encoder) = ImageEncoder::with(&plan, given.arena, kernels, &CREW) else { return Ok(()) };
    if let Ok(embedding) = encoder.encode(given.pack) {
        let values = embedding.hidden().iter().chain(embedding.pooled().unwrap_or(&[]));
        given.states.iter_mut().zip(values).for_each(|(state, value)| *state = *value);
    }
    let _ = encoder.pass(&[given.pack, given.request], &mut ());
    Ok(())
}

fn encode(mut encoder: Encoder<'_>, text: &str, ids: &[u32], states: &mut [f32]) {
    let mut keep = |values: &[f32]| states.iter_mut().zip(values).for_each(|(state, value)| *state += value);
    keep(encoder.encode(text).hidden());
    keep(encoder.encode_unpadded(text).pooled().unwrap_or(&[]));
    if let Ok(embedding) = encoder.encode_ids(ids) {
        keep(embedding.hidden());
    }
    if let Ok(pair) = encoder.encode_pair([text, ""]) {
        pair.iter().for_each(|embedding| keep(embedding.hidden()));
    }
    if let Ok(pair) = encoder.encode_pair_unpadded([text, ""]) {
        pair.iter().for_each(|embedding| keep(embedding.hidden()));
    }
    let _ = encoder.pass(&[Input::Text(text), Input::Ids(ids), Input::Content(ids)], &mut ());
}

fn prompt<T: cliptext::threads::Team>(
    encoder: &mut Encoder<'_, T>,
    prompt: &mut Prompt,
    text: &str,
    [weighting, chunks, comma, _]: [u8; 4],
    states: &mut [f32],
) {
    let weighting = match weighting {
        0 => Weighting::None,
        1 => Weighting::A1111,
        _ => Weighting::Comfy,
    };
    let chunks = match chunks {
        0 => Chunks::Auto,
        1 => Chunks::One,
        chunks => Chunks::Exactly(chunks),
    };
    let tokenizer = *encoder.program().tokenizer();
    if prompt.read(&tokenizer, text, Options { weighting, chunks, comma }).is_ok() {
        let _ = encoder.encode_prompt(prompt, None, states, None);
    }
}

fn pack(given: &'static mut Given) -> Result<(), PackError> {
    let pack = Pack::load(given.pack)?;
    if let Some(entry) = pack.find(given.text) {
        let _ = entry.hidden().copy_to(given.states);
    }
    Ok(())
}

fn stream(given: &'static mut Given) -> Result<(), LoadError> {
    let program = Program::load(given.plan)?;
    let Some(kernels) = kernels(given.options[0]) else { return Ok(()) };
    let Ok(stream) = Stream::new(&program, Card(given.port), given.buffer) else { return Ok(()) };
    let Ok(encoder) = Encoder::over(program, stream, given.arena, kernels, &CREW) else { return Ok(()) };
    let mut server = Server::new(encoder, &COUNTERS, given.prompt).with_work(given.work);
    let _ = server.serve(&mut given.port, &mut Receiver::new(given.request));
    Ok(())
}
