//! Places in the arena, from lifetimes.

/// A buffer that needs a place.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Bytes, a multiple of the arena's alignment.
    pub bytes: usize,
    /// The first step that uses it.
    pub first: usize,
    /// The last step that uses it.
    pub last: usize,
}

/// Offsets for `demands`, and the bytes of the whole arena.
///
/// The largest first, each at the lowest offset where nothing that lives at the same time stands: not always the
/// least, but for a transformer's few buffers it is (the test compares with the lower bound).
pub fn lay_out(demands: &[Demand]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(demands[index].bytes), index));
    let mut offsets = vec![0; demands.len()];
    let mut placed: Vec<usize> = Vec::new();
    for &index in &order {
        let demand = demands[index];
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other| demands[other].first <= demand.last && demand.first <= demands[other].last)
            .map(|&other| (offsets[other], offsets[other] + demands[other].bytes))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + demand.bytes <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[index] = offset;
        placed.push(index);
    }
    let bytes = (0..demands.len()).map(|index| offsets[index] + demands[index].bytes).max().unwrap_or(0);
    (offsets, bytes)
}

/// The most bytes that live at one time: no arena can be smaller.
pub fn lower_bound(demands: &[Demand]) -> usize {
    let steps = demands.iter().map(|demand| demand.last + 1).max().unwrap_or(0);
    (0..steps)
        .map(|step| demands.iter().filter(|d| (d.first..=d.last).contains(&step)).map(|d| d.bytes).sum())
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_together_stands_apart() {
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let demands: Vec<Demand> = (0..20)
                .map(|_| {
                    let first = random(30) as usize;
                    Demand { bytes: 64 * (1 + random(50) as usize), first, last: first + random(8) as usize }
                })
                .collect();
            let (offsets, bytes) = lay_out(&demands);
            assert!(bytes >= lower_bound(&demands));
            for (i, a) in demands.iter().enumerate() {
                assert!(offsets[i] + a.bytes <= bytes);
                for (j, b) in demands.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let overlap = offsets[i] < offsets[j] + b.bytes && offsets[j] < offsets[i] + a.bytes;
                    assert!(!(together && overlap), "{i} and {j}");
                }
            }
        }
    }
}
