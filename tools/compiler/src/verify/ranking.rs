//! Whether what belongs together is found: recall at k, and zero-shot's top-k accuracy, which is the same over classes.

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::arithmetic::parallel;

/// The directions of embeddings, by the f32 model and by the plan.
#[derive(Clone, Debug)]
pub struct Directions {
    /// The f32 model's, of length 1 each.
    pub model: Vec<Vec<f64>>,
    /// The plan's.
    pub plan: Vec<Vec<f64>>,
}

impl Directions {
    /// Of embeddings, the plan's and the f32 model's of each input; `name` says what an input is.
    ///
    /// # Errors
    /// When one has no direction: names it.
    pub fn of(embeddings: &[[Vec<f32>; 2]], name: impl Fn(usize) -> String) -> Result<Self> {
        let side = |which: usize, whose: &str| {
            let one = |(index, both): (usize, &[Vec<f32>; 2])| {
                let wide = both[which].iter().map(|&value| f64::from(value)).collect();
                unit(wide).map_or_else(|| bail!("{}: {whose} embedding has no direction", name(index)), Ok)
            };
            embeddings.iter().enumerate().map(one).collect::<Result<Vec<_>>>()
        };
        Ok(Directions { plan: side(0, "the plan's")?, model: side(1, "the f32 model's")? })
    }

    /// The directions of the means of every `count` that follow one another.
    ///
    /// # Errors
    /// When a mean has none.
    pub fn means(&self, count: usize) -> Result<Self> {
        let mean = |rows: &[Vec<f64>]| {
            let mut sum = vec![0.0; rows.first().map_or(0, Vec::len)];
            rows.iter().for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value));
            unit(sum).map_or_else(|| bail!("the mean over a class's templates has no direction"), Ok)
        };
        let side = |rows: &[Vec<f64>]| rows.chunks(count).map(mean).collect::<Result<Vec<_>>>();
        Ok(Directions { model: side(&self.model)?, plan: side(&self.plan)? })
    }

    /// Those with the numbers `of`, in that order.
    pub fn select(&self, of: &[usize]) -> Self {
        let side = |rows: &[Vec<f64>]| of.iter().map(|&index| rows[index].clone()).collect();
        Directions { model: side(&self.model), plan: side(&self.plan) }
    }
}

/// A vector brought to length 1; `None` where it is all zeros or not finite.
fn unit(mut vector: Vec<f64>) -> Option<Vec<f64>> {
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    if length == 0.0 || !length.is_finite() {
        return None;
    }
    vector.iter_mut().for_each(|value| *value /= length);
    Some(vector)
}

/// How often something right is among the first `k`, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct At {
    /// How many of the best are looked at.
    pub k: usize,
    /// By the f32 model.
    pub model: f64,
    /// By the plan.
    pub plan: f64,
}

/// What comes of asking with each query for the candidates that belong to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// How many ask.
    pub queries: usize,
    /// Among how many.
    pub candidates: usize,
    /// For each `k`.
    pub at: Vec<At>,
    /// How often plan and f32 model have the same candidate first, 0 to 1.
    pub same_first: f64,
}

/// Ranks all candidates by their cosine with each query; of equal ones the first is before. `right` are each query's own.
///
/// # Errors
/// When there are no queries, or one has no candidate of its own.
pub fn ranked(
    queries: &Directions,
    candidates: &Directions,
    right: &[Vec<usize>],
    ks: &[usize],
) -> Result<Ranked> {
    ensure!(!right.is_empty() && right.iter().all(|own| !own.is_empty()), "nothing that belongs together");
    let ask = |queries: &[Vec<f64>], candidates: &[Vec<f64>]| {
        let mut answers = vec![Answer::default(); queries.len()];
        parallel::each(answers.iter_mut().zip(queries).zip(right), |((answer, query), own)| {
            *answer = Answer::of(query, candidates, own);
        });
        answers
    };
    let model = ask(&queries.model, &candidates.model);
    let plan = ask(&queries.plan, &candidates.plan);
    let part = |count: usize| count as f64 / right.len() as f64;
    let within = |answers: &[Answer], k: usize| part(answers.iter().filter(|answer| answer.rank < k).count());
    let same = model.iter().zip(&plan).filter(|(model, plan)| model.first == plan.first).count();
    Ok(Ranked {
        queries: right.len(),
        candidates: candidates.model.len(),
        at: ks.iter().map(|&k| At { k, model: within(&model, k), plan: within(&plan, k) }).collect(),
        same_first: part(same),
    })
}

/// What one query finds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Answer {
    /// The best candidate.
    first: usize,
    /// How many are before the best of its own.
    rank: usize,
}

impl Answer {
    fn of(query: &[f64], candidates: &[Vec<f64>], own: &[usize]) -> Self {
        let cosine = |candidate: &Vec<f64>| query.iter().zip(candidate).map(|(a, b)| a * b).sum::<f64>();
        let cosines: Vec<f64> = candidates.iter().map(cosine).collect();
        let is_before = |a: usize, b: usize| cosines[a] > cosines[b] || cosines[a] == cosines[b] && a < b;
        let better = |a: usize, b: usize| if is_before(b, a) { b } else { a };
        let best = own.iter().copied().reduce(better).unwrap_or(0);
        Answer {
            first: (0..cosines.len()).reduce(better).unwrap_or(0),
            rank: (0..cosines.len()).filter(|&other| is_before(other, best)).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(rows: &[[f32; 2]]) -> Directions {
        let both: Vec<[Vec<f32>; 2]> = rows.iter().map(|row| [row.to_vec(), row.to_vec()]).collect();
        Directions::of(&both, |index| index.to_string()).unwrap()
    }

    #[test]
    fn the_best_of_a_query_s_own_counts_and_of_equal_ones_the_first_is_before() {
        let candidates = same(&[[1.0, 0.0], [2.0, 0.0], [1.0, 1.0], [0.0, 1.0]]);
        let queries = same(&[[1.0, 0.0], [1.0, 0.1], [0.0, 3.0]]);
        // Its second twin; the fourth and the third; the first.
        let right = [vec![1], vec![3, 2], vec![0]];
        let found = ranked(&queries, &candidates, &right, &[1, 2, 3, 4]).unwrap();
        assert_eq!((found.queries, found.candidates, found.same_first), (3, 4, 1.0));
        let at: Vec<f64> = found.at.iter().map(|at| at.plan).collect();
        assert_eq!(at, [0.0, 1.0 / 3.0, 1.0, 1.0]);
        assert!(ranked(&queries, &candidates, &[], &[1]).is_err());
    }

    #[test]
    fn means_are_of_directions() {
        let means = same(&[[4.0, 0.0], [0.0, 1.0], [1.0, 0.0], [3.0, 0.0]]).means(2).unwrap();
        let half = 0.5f64.sqrt();
        assert!(means.plan[0].iter().all(|value| (value - half).abs() < 1e-12));
        assert_eq!(means.model[1], [1.0, 0.0]);
        assert!(same(&[[1.0, 0.0], [-1.0, 0.0]]).means(2).is_err());
    }

    #[test]
    fn what_has_no_direction_is_named() {
        for bad in [[0.0, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 0.0]] {
            let error = Directions::of(&[[bad.to_vec(), vec![1.0, 0.0]]], |_| "a.png".into()).unwrap_err();
            assert_eq!(error.to_string(), "a.png: the plan's embedding has no direction");
        }
    }
}
