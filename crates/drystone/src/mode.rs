//! Permission bits as people write them for `chmod`: `644`, `u+x,go-w`, `a=rX`, `g=u`.

/// The bits of owner, group and others. Those above are kept for programs and mean nothing here: octal modes set them,
/// steps leave them alone.
const ALL: u32 = 0o777;
const MOST: u32 = 0o7777;

/// A change of permission bits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ModeChange {
    /// These, whatever there was.
    To(u32),
    /// One step after the other.
    Steps(Vec<Step>),
}

/// One step of a symbolic mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Whose bits: 0o700, 0o070, 0o007 and their sums; 0 if nobody was named.
    who: u32,
    action: Action,
    /// Bits for all three classes, as 0o444.
    bits: u32,
    /// Also execute, for directories and what somebody may execute already.
    execute_if_any: bool,
    /// The class whose bits are taken, by how far they are shifted.
    like: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Add,
    Remove,
    Set,
}

/// Parses what stands on the command line.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(text: &str) -> Result<ModeChange, String> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= MOST);
        return bits
            .map(ModeChange::To)
            .ok_or_else(|| format!("{text:?} is not a mode: octal modes are 0 to 7777"));
    }
    let mut steps = Vec::new();
    for clause in text.split(',') {
        parse_clause(clause, &mut steps)
            .map_err(|why| format!("{text:?} is not a mode: {why}; modes are as 644 or u+x,go-w"))?;
    }
    Ok(ModeChange::Steps(steps))
}

/// `[ugoa]*` and then one or more of `[-+=]` with `[rwxX]*` or one of `[ugo]`.
fn parse_clause(clause: &str, steps: &mut Vec<Step>) -> Result<(), String> {
    let mut rest = clause.chars().peekable();
    let mut who = 0;
    while let Some(class) = rest.next_if(|c| matches!(c, 'u' | 'g' | 'o' | 'a')) {
        who |= match class {
            'a' => ALL,
            class => 0o7 << shift(class),
        };
    }
    if rest.peek().is_none() {
        return Err(format!("{clause:?} has no +, - or ="));
    }
    while let Some(sign) = rest.next() {
        let action = match sign {
            '+' => Action::Add,
            '-' => Action::Remove,
            '=' => Action::Set,
            other => {
                return Err(format!(
                    "{other:?} in {clause:?} is none of u, g, o, a, +, -, =, r, w, x, X"
                ));
            }
        };
        let mut step = Step {
            who,
            action,
            bits: 0,
            execute_if_any: false,
            like: None,
        };
        if let Some(class) = rest.next_if(|c| matches!(c, 'u' | 'g' | 'o')) {
            step.like = Some(shift(class));
        } else {
            while let Some(bit) = rest.next_if(|c| matches!(c, 'r' | 'w' | 'x' | 'X')) {
                match bit {
                    'r' => step.bits |= 0o444,
                    'w' => step.bits |= 0o222,
                    'x' => step.bits |= 0o111,
                    _ => step.execute_if_any = true,
                }
            }
        }
        steps.push(step);
    }
    Ok(())
}

fn shift(class: char) -> u32 {
    match class {
        'u' => 6,
        'g' => 3,
        _ => 0,
    }
}

impl ModeChange {
    /// The bits that there will be instead of `mode`. Where nobody is named, the bits of `umask` stay as they are, as
    /// everywhere.
    pub fn apply(&self, mode: u32, is_directory: bool, umask: u32) -> u32 {
        match self {
            Self::To(bits) => *bits,
            Self::Steps(steps) => steps
                .iter()
                .fold(mode, |mode, step| step.apply(mode, is_directory, umask)),
        }
    }

    /// True if what there will be depends on what there is.
    pub fn is_relative(&self) -> bool {
        matches!(self, Self::Steps(_))
    }

    /// True if the umask counts.
    pub fn asks_umask(&self) -> bool {
        matches!(self, Self::Steps(steps) if steps.iter().any(|step| step.who == 0))
    }
}

impl Step {
    fn apply(self, mode: u32, is_directory: bool, umask: u32) -> u32 {
        let mut bits = match self.like {
            Some(shift) => (mode >> shift & 0o7) * 0o111,
            None => self.bits,
        };
        if self.execute_if_any && (is_directory || mode & 0o111 != 0) {
            bits |= 0o111;
        }
        let who = if self.who == 0 { ALL & !umask } else { self.who };
        let all = if self.who == 0 { ALL } else { self.who };
        match self.action {
            Action::Add => mode | bits & who,
            Action::Remove => mode & !(bits & who),
            Action::Set => mode & !all | bits & who,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As GNU chmod does, tried on the same files with a umask of 022.
    #[test]
    fn modes_change_as_chmod_changes_them() {
        for (text, before, is_directory, after) in [
            ("644", 0o755, false, 0o644),
            ("0", 0o755, false, 0),
            ("0600", 0o755, true, 0o600),
            ("1777", 0o755, true, 0o1777),
            ("o-w", 0o1777, true, 0o1775),
            ("u+x", 0o644, false, 0o744),
            ("u+x,go-w", 0o666, false, 0o744),
            ("ug=rw", 0o755, false, 0o665),
            ("a=", 0o777, false, 0),
            ("a+r-w", 0o222, false, 0o444),
            ("go=u", 0o640, false, 0o666),
            ("g=u-w", 0o600, false, 0o640),
            ("o-g", 0o657, false, 0o652),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o744, false, 0o755),
            ("a+X", 0o600, true, 0o711),
            ("u=rwX,go=rX", 0o777, false, 0o755),
            ("u=rwX,go=rX", 0o666, false, 0o644),
            ("+x", 0o644, false, 0o755),
            ("+w", 0o444, false, 0o644),
            ("=rw", 0o777, false, 0o644),
            ("-w", 0o666, false, 0o466),
        ] {
            let change = parse(text).unwrap();
            let done = change.apply(before, is_directory, 0o022);
            assert_eq!(done, after, "{text} of {before:o}: {done:o}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused_with_a_reason() {
        for (text, why) in [
            ("", "has no +"),
            ("u", "has no +"),
            ("u+x,", "has no +"),
            ("888", "octal"),
            ("17777", "0 to 7777"),
            ("64x", "octal"),
            ("99999999999999", "octal"),
            ("u+s", "'s'"),
            ("+t", "'t'"),
            ("k+r", "'k'"),
            ("u+rg", "'g'"),
            ("ü+x", "'ü'"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
