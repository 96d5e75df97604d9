//! How much memory this process may use.

use std::fs;
use std::path::{Path, PathBuf};

/// A system that does not say how much memory it has is taken to have this much.
const UNKNOWN: u64 = 1 << 30;

/// Bytes of memory that this process may use: what the machine has, or less where a control group bounds it.
pub fn memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| parse_total(&text)).unwrap_or(UNKNOWN);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let bounds = bound_files(&groups)
        .into_iter()
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    bounds.fold(machine, u64::min)
}

/// Of `/proc/meminfo`.
fn parse_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// Where the groups of `/proc/self/cgroup`, and those above them, say how much they may have (`max`: as much as there is).
/// In a container its own group is often found at the top only.
fn bound_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            all if all.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(root).join(group.trim_start_matches('/'));
        let above = group.ancestors().take_while(|path| path.starts_with(root));
        files.extend(above.map(|path| path.join(name)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory() {
        assert_eq!(
            parse_total("MemTotal:       24684308 kB\nMemFree: 1 kB\n"),
            Some(24_684_308 << 10)
        );
        assert_eq!(parse_total("MemFree: 1 kB\n"), None);
        assert!(memory_bytes() > 16 << 20);
    }

    #[test]
    fn groups_are_looked_for_from_their_own_to_the_top() {
        let groups = "4:cpu,memory:/a/b\n3:cpuset:/x\n0::/c\nodd\n";
        let files: Vec<String> = (bound_files(groups).iter())
            .map(|file| file.display().to_string())
            .collect();
        assert_eq!(
            files,
            [
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/c/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert!(bound_files("").is_empty());
    }
}
