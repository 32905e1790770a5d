//! How many cores are worth a thread.

use std::path::Path;
use std::vec::Vec;
use std::{fs, thread};

/// Threads for this machine: its cores, or where some are larger than others, the large ones.
pub fn default_threads() -> usize {
    let available = thread::available_parallelism().map_or(1, usize::from);
    big_cores(Path::new("/sys/devices/system/cpu")).map_or(available, |big| big.min(available)).max(1)
}

/// The largest cores of a big.LITTLE machine, by what Linux tells under `root` (`/sys/devices/system/cpu`).
///
/// A core's size is its `cpu_capacity`, or where no core has one, its highest frequency. A step ends when its slowest
/// thread ends, so cores below three quarters of the largest are left out. `None` where nothing is told, or all cores
/// are alike.
pub fn big_cores(root: &Path) -> Option<usize> {
    let sizes = |file: &str| -> Vec<u64> {
        (0..)
            .map(|index| root.join(std::format!("cpu{index}")))
            .take_while(|core| core.is_dir())
            .filter_map(|core| fs::read_to_string(core.join(file)).ok()?.trim().parse().ok())
            .collect()
    };
    let capacities = sizes("cpu_capacity");
    let sizes = if capacities.is_empty() { sizes("cpufreq/cpuinfo_max_freq") } else { capacities };
    let largest = *sizes.iter().max()?;
    let big = sizes.iter().filter(|&&size| size * 4 >= largest * 3).count();
    (big < sizes.len()).then_some(big)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, file: &str, values: &[&str]) -> Option<usize> {
        let root = std::env::temp_dir().join(std::format!("cliptext-cores-{}-{name}", std::process::id()));
        for (index, value) in values.iter().enumerate() {
            let path = root.join(std::format!("cpu{index}")).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        let big = big_cores(&root);
        let _ = fs::remove_dir_all(&root);
        big
    }

    #[test]
    fn big_cores_are_counted() {
        let rk3588 = ["530\n", "530\n", "530\n", "530\n", "1024\n", "1024\n", "1024\n", "1024\n"];
        assert_eq!(machine("rk3588", "cpu_capacity", &rk3588), Some(4));
        let frequencies = ["1800000\n", "1800000\n", "2400000\n"];
        assert_eq!(machine("alike", "cpufreq/cpuinfo_max_freq", &frequencies), None);
        let frequencies = ["1400000\n", "1400000\n", "2400000\n"];
        assert_eq!(machine("frequency", "cpufreq/cpuinfo_max_freq", &frequencies), Some(1));
        assert_eq!(machine("pi5", "cpu_capacity", &["1024\n"; 4]), None);
        assert_eq!(machine("silent", "other", &["1\n"; 2]), None);
    }
}
