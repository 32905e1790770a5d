//! The vocabulary that a plan gets, and what fills each tower's context.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use cliptext::tokenizer::Padding;

use crate::compile::load::LoadedTower;
use crate::ir::Pooled;
use crate::preset::Choice;
use crate::progress::Progress;
use crate::source::SourceTower;
use crate::vocabulary::{self, VocabularySource, VocabularyTable};

/// Tokens of nearly every CLIP.
const USUAL_CONTEXT: usize = 77;

/// The vocabularies of a model's towers: all have the same words, since a prompt is tokenized once; the padding is each
/// tower's own.
pub struct Vocabularies {
    /// Where the first tower's comes from.
    source: VocabularySource,
    /// Of each tower.
    tables: Vec<VocabularyTable>,
}

impl Vocabularies {
    /// Reads the vocabulary at `path`, or else the one beside each of `towers`, or else CLIP's own.
    ///
    /// # Errors
    /// When one can't be read, or the towers' have other words.
    pub fn read(path: Option<&Path>, towers: &[&SourceTower], progress: &Progress) -> Result<Self> {
        let source = |tower: &SourceTower| match path.or(tower.tokenizer.as_deref()) {
            Some(path) => VocabularySource::Path(path.to_owned()),
            None => VocabularySource::Standard,
        };
        let mut tables: Vec<VocabularyTable> = Vec::new();
        for tower in towers {
            let table = vocabulary::build(source(tower), &[])?;
            if let Some(first) = tables.first() {
                ensure!(
                    first.same_words(&table),
                    "{}: its tokenizer has other words than that of {}: one prompt can't be tokenized for both",
                    tower.name,
                    towers[0].name
                );
            }
            tables.push(table);
        }
        let mut told: Vec<&String> = tables.iter().flat_map(|table| &table.notes).collect();
        told.dedup();
        told.into_iter().for_each(|note| progress.note(note));
        Ok(Vocabularies { source: source(towers[0]), tables })
    }

    /// Adds the words that were added to the towers, which are the same in all.
    ///
    /// # Errors
    /// When the vocabulary has no room for them.
    pub fn add_words(&mut self, towers: &[LoadedTower], progress: &Progress) -> Result<()> {
        let words = &towers[0].words;
        if !words.is_empty() {
            let build = || vocabulary::build(self.source.clone(), words);
            self.tables[0] = progress.stage("new words", build)?;
        }
        Ok(())
    }

    /// The plan's.
    pub fn table(&self) -> &VocabularyTable {
        &self.tables[0]
    }

    /// What fills the context of each tower: as the user says, else as its tokenizer says, else as the family has it.
    ///
    /// # Errors
    /// When that is no id of the vocabulary.
    pub fn paddings(&self, choice: &Choice, towers: &[LoadedTower]) -> Result<Vec<Padding>> {
        let size = self.table().size;
        let one = |(tower, table): (&LoadedTower, &VocabularyTable)| {
            let tokenizers = table.pad_id.map(|id| match id {
                end if end == table.end_id => Padding::End,
                other => Padding::Id(other),
            });
            let padding = choice.padding.or(tokenizers).or(tower.padding).unwrap_or(Padding::End);
            match padding {
                Padding::Id(id) if id as usize >= size => {
                    bail!("padding with the id {id} (--pad) is wanted, the vocabulary has {size} ids")
                }
                padding => Ok(padding),
            }
        };
        towers.iter().zip(&self.tables).map(one).collect()
    }
}

/// Whether model and vocabulary belong together; tells what may be amiss.
///
/// # Errors
/// When the model has no row for a word, or pools at another token.
pub fn fits(
    tower: &LoadedTower,
    vocabulary: &VocabularyTable,
    choice: &Choice,
    progress: &Progress,
) -> Result<()> {
    let (rows, words) = (tower.model.token_embedding.rows, vocabulary.size);
    ensure!(
        words <= rows,
        "the vocabulary has {words} ids, the model's token embedding {rows} rows: give the model's own with --vocab"
    );
    let (pools, ends) = (tower.outputs.end_token, vocabulary.end_id);
    ensure!(
        tower.outputs.pooled == Pooled::None || pools == ends,
        "the model pools at token {pools}, the vocabulary's end token is {ends}: give the model's own with --vocab"
    );
    if rows > words {
        progress.note(&format!(
            "{}: the token embedding has {rows} rows, the vocabulary {words} words: the last {} rows belong to no word. If \
             words were added to the model, give the tokenizer that names them with --vocab",
            tower.name,
            rows - words
        ));
    }
    let context = tower.model.context();
    if context != USUAL_CONTEXT && choice.context.is_none() {
        progress.note(&format!(
            "the model takes {context} tokens, not {USUAL_CONTEXT}: if it is an export and the model has more positions, \
             export it for all of them"
        ));
    }
    Ok(())
}
