//! Addresses as people type them.

use std::net::{SocketAddr, ToSocketAddrs};

/// `host:port` or `ip:port`: a name is looked up, and IPv4 comes first.
///
/// # Errors
/// A sentence that says what is accepted.
pub fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let form = || format!("{text:?} is not HOST:PORT, as 127.0.0.1:9700 or localhost:9700");
    let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(form());
    }
    let found = text
        .to_socket_addrs()
        .map_err(|error| format!("{host} has no address: {error}"))?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found
        .first()
        .copied()
        .ok_or_else(|| format!("{host} has no address"))
}

/// The URL of a REST door, without a slash at the end, from `http://HOST:PORT` or `HOST:PORT`.
///
/// # Errors
/// A sentence that says what is accepted.
pub fn parse_url(text: &str) -> Result<String, String> {
    let form = || {
        format!("{text:?} is not the REST address of a cluster, as http://127.0.0.1:9700 or 127.0.0.1:9700")
    };
    let url = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let uri: http::Uri = url.parse().map_err(|_| form())?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(format!("{text:?}: there is no TLS yet, use http://")),
        _ => return Err(form()),
    }
    if uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
        return Err(form());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up() {
        assert_eq!(parse("127.0.0.1:9700").unwrap().to_string(), "127.0.0.1:9700");
        assert_eq!(parse("[::1]:9700").unwrap().to_string(), "[::1]:9700");
        let localhost = parse("localhost:9700").unwrap();
        assert!(localhost.ip().is_loopback() && localhost.port() == 9700);
        for text in ["9700", "localhost", ":9700", "localhost:x", "localhost:70000", ""] {
            assert!(parse(text).unwrap_err().contains("HOST:PORT"), "{text}");
        }
    }

    #[test]
    fn the_scheme_may_be_left_out() {
        for text in [
            "http://127.0.0.1:9700",
            "http://127.0.0.1:9700/",
            "127.0.0.1:9700",
            "127.0.0.1:9700/",
        ] {
            assert_eq!(parse_url(text).unwrap(), "http://127.0.0.1:9700");
        }
        assert_eq!(parse_url("localhost:9700").unwrap(), "http://localhost:9700");
        assert_eq!(parse_url("[::1]:9700").unwrap(), "http://[::1]:9700");
        assert_eq!(parse_url("http://x/door/").unwrap(), "http://x/door");
        for text in ["ftp://x", "", "http://", "a b", "http://x?y"] {
            assert!(parse_url(text).unwrap_err().contains("http://127"), "{text}");
        }
        assert!(parse_url("https://x").unwrap_err().contains("TLS"));
    }
}
