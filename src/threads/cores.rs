//! How many cores are worth a thread.

use std::path::{Path, PathBuf};
use std::vec::Vec;
use std::{fs, thread};

/// Threads for this machine: one for each core that is worth one.
///
/// All cores, where they are alike or nobody tells; else the fastest ones and those that are at least half as fast. A step's tasks are
/// small and are taken by whoever is free, so a core of half the speed still adds half of its own, and costs the step the
/// rest of one task at the most. Slower ones, the little cores of most chips, add less than they hold up: they have narrower units for
/// just the products that an encoder is made of.
pub fn default_threads() -> usize {
    let available = thread::available_parallelism().map_or(1, usize::from);
    big_cores(Path::new("/sys/devices/system/cpu")).map_or(available, |big| big.min(available)).max(1)
}

/// How fast the cores of a machine are, as Linux tells it.
struct Measure {
    /// The file of a core.
    file: &'static str,
    /// The part of the fastest core's value that a core is worth a thread from.
    worth: (u64, u64),
}

/// `cpu_capacity` weighs frequency and what a core does in a cycle. Where no core has one there is the highest frequency, by which a
/// little core looks faster than it is: it does less in a cycle.
const MEASURES: [Measure; 2] = [
    Measure { file: "cpu_capacity", worth: (1, 2) },
    Measure { file: "cpufreq/cpuinfo_max_freq", worth: (3, 4) },
];

/// The cores of a machine that are worth a thread, by what Linux tells under `root` (`/sys/devices/system/cpu`); the rule is that of
/// [`default_threads`]. `None` where nothing is told, or all cores are.
pub fn big_cores(root: &Path) -> Option<usize> {
    let (measure, speeds) = MEASURES
        .iter()
        .map(|measure| -> (&Measure, Vec<u64>) {
            let cores =
                (0..).map(|index| root.join(std::format!("cpu{index}"))).take_while(|core| core.is_dir());
            let speed = |core: PathBuf| fs::read_to_string(core.join(measure.file)).ok()?.trim().parse().ok();
            (measure, cores.filter_map(speed).collect())
        })
        .find(|(_, speeds)| !speeds.is_empty())?;
    let fastest = *speeds.iter().max()?;
    let (part, whole) = measure.worth;
    let worth = speeds.iter().filter(|&&speed| speed * whole >= fastest * part).count();
    (worth < speeds.len()).then_some(worth)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, file: &str, values: &[u64]) -> Option<usize> {
        let root = std::env::temp_dir().join(std::format!("cliptext-cores-{}-{name}", std::process::id()));
        for (index, value) in values.iter().enumerate() {
            let path = root.join(std::format!("cpu{index}")).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, std::format!("{value}\n")).unwrap();
        }
        let big = big_cores(&root);
        let _ = fs::remove_dir_all(&root);
        big
    }

    /// As Linux makes them: `capacity-dmips-mhz` of the device tree times the highest frequency, the fastest core's being 1024.
    #[test]
    fn cores_of_half_the_speed_are_worth_a_thread() {
        let chips: [(&str, &[u64], Option<usize>); 7] = [
            // 4 Cortex-A55 at 1.8 GHz, 4 Cortex-A76 at 2.4 GHz.
            ("rk3588", &[397, 397, 397, 397, 1024, 1024, 1024, 1024], Some(4)),
            // 4 Cortex-A53 at 1.4 GHz, 2 Cortex-A72 at 1.8 GHz.
            ("rk3399", &[381, 381, 381, 381, 1024, 1024], Some(2)),
            // 4 Cortex-A510, 3 Cortex-A710 of 0.7 times the one Cortex-X2's speed: Snapdragon 8 Gen 1.
            ("1+3+4", &[255, 255, 255, 255, 717, 717, 717, 1024], Some(4)),
            // 12 Cortex-A78AE: Jetson Orin.
            ("orin", &[1024; 12], None),
            // Raspberry Pi 3 to 5: 4 alike.
            ("pi", &[1024; 4], None),
            ("just half", &[512, 1024], None),
            ("just below", &[511, 1024], Some(1)),
        ];
        for (name, capacities, threads) in chips {
            assert_eq!(machine(name, "cpu_capacity", capacities), threads, "{name}");
        }
    }

    #[test]
    fn frequencies_count_where_no_capacity_is_told() {
        let frequency = "cpufreq/cpuinfo_max_freq";
        assert_eq!(machine("alike", frequency, &[1_800_000, 1_800_000, 2_400_000]), None);
        assert_eq!(machine("frequency", frequency, &[1_400_000, 1_400_000, 2_400_000]), Some(1));
        assert_eq!(machine("silent", "other", &[1; 2]), None);
    }
}
