//! Writes the table, in the order of [`Layout`].

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use cliptext::tokenizer::table::{
    ADDED_FLAGS, ADDED_MORE, ADDED_RECORD, ADDED_TEXT, BASE_TOKENS, Layout, MAGIC, NO_TOKEN, VERSION,
    added_flag, field,
};

use super::definition::Definition;
use super::tokens::Tokens;

pub(super) fn table(definition: &Definition, tokens: &Tokens) -> Result<Vec<u8>> {
    let trie = Trie::of(tokens);
    let layout =
        Layout::new(tokens.merges.len(), trie.labels.len(), tokens.added.len(), tokens.ids.is_some())
            .context("the vocabulary's table does not fit in memory")?;
    let mut out = vec![0; layout.len()];
    out[..MAGIC.len()].copy_from_slice(&MAGIC);
    for (at, value) in [
        (field::VERSION, VERSION),
        (field::MERGES, tokens.merges.len() as u32),
        (field::NODES, trie.labels.len() as u32),
        (field::ADDED, tokens.added.len() as u32),
        (field::START, tokens.start_id),
        (field::END, tokens.end_id),
        (field::SIZE, tokens.size),
        (field::MAPPED, tokens.ids.is_some().into()),
        (field::KEEPS_SPECIAL, definition.keeps_special.into()),
    ] {
        out[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    for (record, added) in out[layout.added].chunks_exact_mut(ADDED_RECORD).zip(&tokens.added) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        record[..4].copy_from_slice(&added.id.to_le_bytes());
        record[4] = added.text.len() as u8;
        record[ADDED_FLAGS] =
            flag(added.normalized, added_flag::NORMALIZED) | flag(added.whole_word, added_flag::WHOLE_WORD);
        record[ADDED_MORE] = added.more;
        record[ADDED_TEXT..][..added.text.len()].copy_from_slice(added.text.as_bytes());
    }
    words(&mut out[layout.first_children], trie.first_children.iter().copied());
    words(&mut out[layout.ids], tokens.ids.iter().flatten().copied());

    let mut ranks: Vec<u16> = (0..tokens.merges.len() as u16).collect();
    ranks.sort_by_key(|&rank| tokens.merges[usize::from(rank)]);
    let lefts: Vec<usize> = ranks.iter().map(|&rank| tokens.merges[usize::from(rank)][0].into()).collect();
    let starts = (0..=tokens.bytes.len()).map(|token| lefts.partition_point(|&left| left < token) as u16);
    halves(&mut out[layout.merges], tokens.merges.iter().flatten().copied());
    halves(&mut out[layout.by_pair], ranks.iter().copied());
    halves(&mut out[layout.pair_starts], starts);
    halves(&mut out[layout.node_tokens], trie.tokens.iter().copied());
    for (slot, (bytes, _)) in out[layout.lengths].iter_mut().zip(&tokens.bytes) {
        *slot = bytes.len() as u8;
    }
    out[layout.labels].copy_from_slice(&trie.labels);
    Ok(out)
}

fn words(section: &mut [u8], values: impl Iterator<Item = u32>) {
    section
        .chunks_exact_mut(4)
        .zip(values)
        .for_each(|(slot, value)| slot.copy_from_slice(&value.to_le_bytes()));
}

fn halves(section: &mut [u8], values: impl Iterator<Item = u16>) {
    section
        .chunks_exact_mut(2)
        .zip(values)
        .for_each(|(slot, value)| slot.copy_from_slice(&value.to_le_bytes()));
}

/// All tokens read from their last byte to their first, nodes numbered level by level.
struct Trie {
    labels: Vec<u8>,
    tokens: Vec<u16>,
    first_children: Vec<u32>,
}

#[derive(Default)]
struct Node {
    token: Option<u16>,
    children: BTreeMap<u8, usize>,
}

impl Trie {
    fn of(tokens: &Tokens) -> Trie {
        // The first nodes are the single bytes, inside a word and at its end.
        let mut nodes: Vec<Node> = (0..BASE_TOKENS).map(|_| Node::default()).collect();
        for (index, ((bytes, ends_word), reachable)) in tokens.bytes.iter().zip(&tokens.reachable).enumerate()
        {
            // A token that no word leads to would break the rule that every candidate is its own encoding.
            if !reachable {
                continue;
            }
            let mut reversed = bytes.iter().rev();
            let last = reversed.next().map_or(0, |&byte| usize::from(byte));
            let mut at = last + if *ends_word { 256 } else { 0 };
            for &byte in reversed {
                let next = nodes.len();
                at = *nodes[at].children.entry(byte).or_insert(next);
                if at == next {
                    nodes.push(Node::default());
                }
            }
            nodes[at].token = Some(index as u16);
        }
        let mut trie = Trie { labels: Vec::new(), tokens: Vec::new(), first_children: Vec::new() };
        let mut order: Vec<(u8, usize)> = (0..BASE_TOKENS).map(|node| (node as u8, node)).collect();
        let mut next = 0;
        while let Some(&(label, node)) = order.get(next) {
            trie.labels.push(label);
            trie.tokens.push(nodes[node].token.unwrap_or(NO_TOKEN));
            trie.first_children.push(order.len() as u32);
            order.extend(nodes[node].children.iter().map(|(&label, &child)| (label, child)));
            next += 1;
        }
        trie.first_children.push(order.len() as u32);
        trie
    }
}
