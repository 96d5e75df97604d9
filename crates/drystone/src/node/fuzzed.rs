//! What holds for every configuration file of a node: the body of the fuzz target `node`.

use super::config::NodeConfig;

/// A file is refused, or it means the same when it is written in another way, and its roles have what they need.
pub fn node(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(config) = NodeConfig::parse(text) else {
        return;
    };
    assert!((1..=255).contains(&config.name.len()));
    let directories = config.directories();
    assert_eq!(
        directories.is_empty(),
        config.metadata.is_none() && config.chunk.is_none()
    );
    assert!(config.metadata.is_none() || config.metadata_node.is_some_and(|node| node > 0));
    assert!(config.chunk.is_none() || config.chunk_node.is_some_and(|node| node > 0));
    let table: toml::Table = text.parse().expect("what was read is TOML");
    let again = toml::to_string(&table).expect("a table can be written");
    assert_eq!(NodeConfig::parse(&again), Ok(config));
}

#[cfg(test)]
mod tests;
