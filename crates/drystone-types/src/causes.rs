//! An error and its causes in one line, for messages that outlive the error.

use std::error::Error;

/// The error's words, and after colons those of its causes that it does not say itself.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Fault(&'static str, Option<Box<Fault>>);

    impl fmt::Display for Fault {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Fault {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn causes_are_named_once() {
        let full = Fault("no space left", None);
        let file = Fault("cannot write x", Some(Box::new(full)));
        assert_eq!(with_causes(&file), "cannot write x: no space left");
        let repeated = Fault(
            "log: cannot write x",
            Some(Box::new(Fault("cannot write x", None))),
        );
        assert_eq!(with_causes(&repeated), "log: cannot write x");
    }
}
