//! Reads a TOML file and names all that is wrong with its keys at once, each with its line.
//!
//! A parser stops at the first fault. So what it complained of is taken out of the file, and the rest is read again.

use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

/// Faults that are named at most.
const MAX_FAULTS: usize = 50;

/// Where something is in a file: the keys that lead to it, and of tables in a row where they begin in the text.
type Place = Vec<String>;

/// What `text` says.
///
/// # Errors
/// Every unknown key and every value of the wrong kind, and the first key that is missing in each table, by line.
/// Of a text that is no TOML: the first fault.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Vec<String>> {
    let first = match toml::from_str::<T>(text) {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    let Ok(mut rest) = DeTable::parse(text) else {
        return Err(told(text, &[first]));
    };
    let (mut faults, mut taken) = (Vec::new(), BTreeSet::new());
    let mut next = Some(first);
    while let Some(error) = next {
        let span = error.span().filter(|span| !span.is_empty());
        let place = span.and_then(|span| take_out(rest.get_mut(), &span));
        // A key that was taken out of a table is missing there now.
        let is_taken = missing(&error).is_some_and(|key| {
            let mut absent = place.clone().unwrap_or_default();
            absent.push(key.to_owned());
            taken.contains(&absent)
        });
        if !is_taken {
            faults.push(error);
        }
        match place.filter(|_| faults.len() < MAX_FAULTS) {
            Some(place) => taken.insert(place),
            // It is about the whole file: nothing is left to be read without it.
            None => break,
        };
        next = T::deserialize(Deserializer::from(rest.clone())).err();
    }
    faults.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    Err(told(text, &faults))
}

/// The key that is missing, if that is the fault.
fn missing(error: &Error) -> Option<&str> {
    error.message().strip_prefix("missing field `")?.strip_suffix('`')
}

/// Lines and words. The keys that there could be in one table are told once.
fn told(text: &str, faults: &[Error]) -> Vec<String> {
    let mut said = BTreeSet::new();
    let tell = |error: &Error| {
        let message = error.message();
        let message = match message.split_once(", expected ") {
            Some((head, tail)) if !said.insert(tail.to_owned()) => head,
            _ => message,
        };
        let message = message
            .replace("unknown field", "unknown key")
            .replace("missing field", "missing key");
        match error
            .span()
            .filter(|span| !span.is_empty() || missing(error).is_none())
        {
            Some(span) => {
                let before = text.get(..span.start).unwrap_or(text);
                format!("line {}: {message}", 1 + before.matches('\n').count())
            }
            None => message,
        }
    };
    faults.iter().map(tell).collect()
}

/// Takes out the innermost key that the span is of, or of whose value it is, or the innermost table in a row; its place.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<Place> {
    let mut found = None;
    for (key, value) in table.iter_mut() {
        let is_here = is_within(span, &key.span()) || is_within(span, &value.span());
        let inside = match value.get_mut() {
            DeValue::Table(inner) => take_out(inner, span),
            DeValue::Array(row) => take_out_of_row(row, span),
            _ => None,
        };
        if let Some(mut place) = inside {
            place.insert(0, key.get_ref().to_string());
            return Some(place);
        }
        if is_here {
            found = Some(key.get_ref().to_string());
        }
    }
    let key = found?;
    table.remove(key.as_str());
    Some(vec![key])
}

/// The same in tables in a row, as [[voters]].
fn take_out_of_row(row: &mut DeArray<'_>, span: &Range<usize>) -> Option<Place> {
    let mut found = None;
    for (at, item) in row.iter_mut().enumerate() {
        let part = item.span();
        let DeValue::Table(inner) = item.get_mut() else {
            continue;
        };
        if let Some(mut place) = take_out(inner, span) {
            place.insert(0, part.start.to_string());
            return Some(place);
        }
        if is_within(span, &part) {
            found = Some((at, part.start.to_string()));
        }
    }
    let (gone, place) = found?;
    let mut kept = DeArray::new();
    for (at, item) in row.iter().enumerate() {
        if at != gone {
            kept.push(item.clone());
        }
    }
    *row = kept;
    Some(vec![place])
}

fn is_within(span: &Range<usize>, part: &Range<usize>) -> bool {
    part.start <= span.start && span.end <= part.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config::NodeConfig;

    fn faults(text: &str) -> Vec<String> {
        read::<NodeConfig>(text).unwrap_err()
    }

    #[test]
    fn every_fault_of_the_keys_is_named_with_its_line() {
        let text = "name = 5\n\
                    colour = 1\n\
                    cluster-file = \"c\"\n\
                    insecure = \"yes\"\n\
                    chunk-node = 7\n\
                    \n\
                    [chunk]\n\
                    data = [\"/d\"]\n\
                    metadata = [\"m:9710\"]\n\
                    read-cache = \"lots\"\n\
                    size = 1\n\
                    flavour = 2\n\
                    io-threads = \"four\"\n\
                    [gateway]\n\
                    metadata = [\"m:9710\"]\n\
                    rest = 80\n";
        let found = faults(text);
        for (at, part) in [
            (1, "invalid type: integer `5`"),
            (2, "unknown key `colour`"),
            (4, "invalid type: string \"yes\""),
            (10, "lots"),
            (11, "unknown key `size`"),
            (12, "unknown key `flavour`"),
            (13, "\"four\""),
            (16, "80"),
        ] {
            let line = format!("line {at}: ");
            let named = found
                .iter()
                .any(|fault| fault.starts_with(&line) && fault.contains(part));
            assert!(named, "{line}{part} in {found:#?}");
        }
        assert_eq!(found.len(), 8, "{found:#?}");
    }

    #[test]
    fn faults_in_rows_of_tables_are_named() {
        let found = faults(
            "name = \"a\"\ncluster-file = \"c\"\n[[voters]]\nnode = 1\naddress = \"a:1\"\nport = 1\nrack = 2\n\
             [[voters]]\nnode = 2\naddress = \"b:1\"\nport = 3\n",
        );
        for line in [
            "line 6: unknown key `port`, expected `node` or `address`",
            "line 7: unknown key `rack`",
            "line 11: unknown key `port`",
        ] {
            assert!(found.iter().any(|fault| fault == line), "{line} in {found:#?}");
        }
    }

    #[test]
    fn missing_keys_are_named_beside_unknown_ones() {
        let found = faults("cluster-file = \"c\"\nsize = 1\n[gateway]\ncolour = 1\n");
        assert!(
            found.iter().any(|fault| fault.contains("missing key `name`")),
            "{found:#?}"
        );
        assert!(
            found.iter().any(|fault| fault.contains("missing key `metadata`")),
            "{found:#?}"
        );
        assert!(
            found
                .iter()
                .any(|fault| fault.contains("line 4: unknown key `colour`")),
            "{found:#?}"
        );
        assert_eq!(found.len(), 4, "{found:#?}");
    }

    /// A key of the wrong type in one table once swallowed the same key that another one lacked.
    #[test]
    fn a_wrong_value_in_one_table_hides_no_missing_key_in_another() {
        let found = faults(
            "name = \"a\"\ncluster-file = \"c\"\n[chunk]\ndata = [\"/d\"]\nmetadata = 1\n[gateway]\nrest = \"127.0.0.1:1\"\n",
        );
        let named = |line: &str, part: &str| {
            let fits = |fault: &String| fault.starts_with(line) && fault.contains(part);
            found.iter().filter(|fault| fits(fault)).count()
        };
        assert_eq!(named("line 5: ", "invalid type"), 1, "{found:#?}");
        assert_eq!(named("line 6: ", "missing key `metadata`"), 1, "{found:#?}");
        assert_eq!(found.len(), 2, "{found:#?}");
        // So in rows of tables.
        let found = faults(
            "name = \"a\"\ncluster-file = \"c\"\n[[voters]]\nnode = \"one\"\naddress = \"a:1\"\n\
             [[voters]]\naddress = \"b:1\"\n[[voters]]\nnode = 3\n",
        );
        let lines: Vec<_> = found.iter().filter_map(|fault| fault.split(':').next()).collect();
        assert_eq!(lines, ["line 4", "line 6", "line 8"], "{found:#?}");
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        let found = faults("name = \"a\"\ncluster-file = \n");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("line 2: "), "{found:#?}");
        let many: String = (0..200).map(|at| format!("k{at} = 1\n")).collect();
        assert_eq!(faults(&many).len(), MAX_FAULTS);
    }
}
