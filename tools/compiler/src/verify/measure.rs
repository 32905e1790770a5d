//! A plan's outputs beside the f32 model's, prompt by prompt.

use anyhow::{Context, Result, ensure};
use cliptext::tokenizer::{Padding, Tokenizer};
use cliptext::{Embedding, Encoder, Plan};

use crate::ir::Matrix;
use crate::tract::run::Computed;
use crate::verify::compare::Comparison;
use crate::verify::figures::{Figures, LayerFigures, PromptFigures, Sums, TowerFigures};
use crate::verify::psnr::Peaks;
use crate::verify::reference::{Reference, TowerSize};

/// Channels that are listed.
const CHANNELS: usize = 16;

/// What comes of a comparison.
pub struct Measured {
    /// Distances.
    pub figures: Figures,
    /// Of each prompt the hidden states, the plan's and the f32 model's.
    pub embeddings: Vec<[Vec<f32>; 2]>,
}

/// Runs the plan on `prompts` and compares each with the references' answers, one reference for each tower.
///
/// # Errors
/// When the plan is not of these towers, or reads the prompts as other ids than the references did.
pub fn measure(
    plan: &Plan<'_>,
    encoder: &mut Encoder<'_>,
    references: &[Reference],
    prompts: &[String],
) -> Result<Measured> {
    let sizes: Vec<TowerSize> = references.iter().map(|reference| reference.size).collect();
    same_towers(plan, &sizes)?;
    for (reference, ids) in references.iter().zip(ids(plan, prompts)?) {
        let theirs = reference.answers.iter().map(|(ids, _)| ids);
        ensure!(
            theirs.eq(&ids),
            "the plan tokenizes the prompts otherwise than the model's tokenizer did: a bug"
        );
    }
    let mut run = Run::new(plan, references);
    let one = |(index, prompt): (usize, &String)| run.prompt(encoder, index, prompt);
    let embeddings = prompts.iter().enumerate().map(one).collect::<Result<_>>()?;
    Ok(Measured { figures: run.figures()?, embeddings })
}

/// Whether the plan's towers are those of these sizes.
///
/// # Errors
/// When they are not: says which options to give.
pub fn same_towers(plan: &Plan<'_>, sizes: &[TowerSize]) -> Result<()> {
    let theirs: Vec<(usize, usize)> = sizes.iter().map(|size| (size.layers, size.width)).collect();
    let ours: Vec<(usize, usize)> = plan.towers().map(|tower| (tower.layers, tower.width)).collect();
    let columns: usize = sizes.iter().map(|size| size.pooled).sum();
    let pooled = plan.manifest().pooled.map_or(0, |rows| rows.columns as usize);
    ensure!(
        ours == theirs && pooled == columns,
        "the plan has (layers, width) {ours:?} and {pooled} pooled columns, the model as it is chosen here {theirs:?} and \
         {columns}: give the options that the plan was compiled with (--preset, --hidden, --pooled, --tower)"
    );
    Ok(())
}

/// The ids that each tower of the plan reads of each prompt.
///
/// # Errors
/// When a tower's padding is not in the vocabulary.
pub fn ids(plan: &Plan<'_>, prompts: &[String]) -> Result<Vec<Vec<Vec<u32>>>> {
    let of = |padding: Padding| {
        let tokenizer = Tokenizer::new(*plan.tokenizer().vocabulary(), plan.context(), padding)?;
        Ok(prompts.iter().map(|prompt| tokenizer.encode(prompt).ids().to_vec()).collect())
    };
    plan.towers().map(|tower| of(tower.padding)).collect()
}

/// Sums in the making.
struct Run<'a> {
    tokenizer: Tokenizer<'a>,
    references: &'a [Reference],
    /// Of each tower, the sums of each state.
    states: Vec<Vec<Sums>>,
    hidden: Sums,
    pooled: Comparison,
    /// Of the hidden states and of the pooled output.
    peaks: [Peaks; 2],
    towers: Vec<TowerSums>,
    prompts: Vec<PromptFigures>,
}

impl<'a> Run<'a> {
    fn new(plan: &Plan<'a>, references: &'a [Reference]) -> Self {
        let states = |reference: &Reference| {
            let count = reference.answers.first().map_or(0, |(_, computed)| computed.states.len());
            vec![Sums::new(reference.size.width); count]
        };
        Run {
            references,
            states: references.iter().map(states).collect(),
            towers: vec![TowerSums::default(); references.len()],
            tokenizer: *plan.tokenizer(),
            hidden: Sums::new(plan.width()),
            pooled: Comparison::default(),
            peaks: Default::default(),
            prompts: vec![],
        }
    }

    /// Adds the prompt of that number; returns both embeddings, the plan's first.
    fn prompt(&mut self, encoder: &mut Encoder<'_>, index: usize, prompt: &str) -> Result<[Vec<f32>; 2]> {
        let theirs: Vec<&Computed> =
            self.references.iter().map(|reference| &reference.answers[index].1).collect();
        let states = &mut self.states;
        let ours = encoder.encode_observed(prompt, |observed| {
            let tower = usize::from(observed.step.role.tower);
            if let Some(layer) = observed.step.completes_layer()
                && let Some(sums) = states.get_mut(tower).and_then(|states| states.get_mut(layer))
            {
                // Without the first row, which some plans do not compute, and which outweighs the others.
                let reference = &theirs[tower].states[layer];
                let skipped = if observed.first == 0 { reference.cols } else { 0 };
                sums.add(1, &observed.values[skipped..], &reference.values);
            }
        });
        let hidden: Vec<&Matrix> = theirs.iter().filter_map(|computed| computed.hidden.as_ref()).collect();
        let reference = side_by_side(&hidden);
        self.hidden.add(0, ours.hidden(), &reference);
        self.peaks[0].add(ours.hidden(), &reference);
        let pooled: Vec<f32> =
            theirs.iter().flat_map(|computed| computed.pooled.iter().flatten()).copied().collect();
        if let Some(ours) = ours.pooled() {
            self.pooled.add(ours, &pooled, pooled.len());
            self.peaks[1].add(ours, &pooled);
        }
        let mut at = (0, 0);
        for (sums, computed) in self.towers.iter_mut().zip(&theirs) {
            sums.add(&ours, computed, &mut at);
        }
        let mut alone = Comparison::default();
        alone.add(ours.hidden(), &reference, ours.width());
        let quality = alone.quality().context("a prompt without tokens")?;
        let (sqnr_db, cosine_min) = (quality.sqnr_db, quality.cosine_min);
        let tokens = self.tokenizer.encode(prompt).len();
        self.prompts.push(PromptFigures { prompt: prompt.to_owned(), tokens, sqnr_db, cosine_min });
        Ok([ours.hidden().to_vec(), reference])
    }

    fn figures(mut self) -> Result<Figures> {
        let mut layers = Vec::new();
        for (tower, states) in self.states.iter().enumerate() {
            for (layer, sums) in states.iter().enumerate() {
                let quality = sums.quality().context("the plan has fewer layers than its manifest says")?;
                layers.push(LayerFigures {
                    tower,
                    layer,
                    sqnr_db: quality.sqnr_db,
                    prompt_specific_db: sums.prompt_specific_db(),
                    cosine_mean: quality.cosine_mean,
                });
            }
        }
        self.prompts.sort_by(|a, b| a.sqnr_db.worst_first(&b.sqnr_db));
        let mut channels = self.hidden.by_channel();
        channels.truncate(CHANNELS);
        Ok(Figures {
            hidden: self.hidden.quality().context("no prompts to compare on")?,
            prompt_specific_db: self.hidden.prompt_specific_db(),
            hidden_psnr: self.peaks[0].psnr().context("no prompts to compare on")?,
            pooled: self.pooled.quality(),
            pooled_psnr: self.peaks[1].psnr(),
            towers: self.towers.iter().map(TowerSums::figures).collect(),
            layers,
            positions: self.hidden.by_position(),
            prompts: self.prompts,
            channels,
        })
    }
}

/// The towers' hidden states joined as the plan joins them: `[context, all widths]`.
fn side_by_side(hidden: &[&Matrix]) -> Vec<f32> {
    let rows = hidden.first().map_or(0, |matrix| matrix.rows);
    (0..rows).flat_map(|row| hidden.iter().flat_map(move |matrix| matrix.row(row))).copied().collect()
}

/// One tower's columns of the outputs.
#[derive(Clone, Debug, Default)]
struct TowerSums {
    hidden: Comparison,
    pooled: Comparison,
}

impl TowerSums {
    /// Adds the columns from `at` on, hidden and pooled, which is moved to where the next tower's begin.
    fn add(&mut self, ours: &Embedding<'_>, theirs: &Computed, at: &mut (usize, usize)) {
        if let Some(theirs) = &theirs.hidden {
            let end = at.0 + theirs.cols;
            for (row, ours) in ours.hidden().chunks_exact(ours.width()).enumerate() {
                self.hidden.add(&ours[at.0..end], theirs.row(row), theirs.cols);
            }
            at.0 = end;
        }
        if let (Some(ours), Some(theirs)) = (ours.pooled(), &theirs.pooled) {
            let end = at.1 + theirs.len();
            self.pooled.add(&ours[at.1..end], theirs, theirs.len());
            at.1 = end;
        }
    }

    fn figures(&self) -> TowerFigures {
        TowerFigures { hidden: self.hidden.quality(), pooled: self.pooled.quality() }
    }
}
