//! Which requests come from where they may: protection of a door that has no authentication against web pages.
//!
//! A page of any site can make its visitor's browser send requests to addresses that only the visitor reaches, loopback
//! first of all. Two checks keep it out. **Host**: a page that has its own name point to this machine's address is of
//! the same origin as the door for its browser, but its name stands in `Host`; only names that were configured, those
//! of loopback and plain addresses are served. **Origin**: a request that changes something must not come from a page of another
//! origin; browsers say so in `Sec-Fetch-Site` or `Origin`, and other programs send neither. Reading is left to the
//! browser, which shows no page an answer of another origin without CORS headers, and a door sends none.

use crate::problem::Problem;
use drystone_types::Code;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, Version, header};
use std::net::{IpAddr, SocketAddr};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The hosts for which a door answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hosts {
    listen: IpAddr,
    names: Vec<String>,
}

impl Hosts {
    /// The names of loopback, the address `listen` (any address, where it listens on all of them), and `names` with
    /// or without a port, in any case.
    pub fn new(listen: SocketAddr, names: &[String]) -> Self {
        let names = names.iter().map(|name| host_of(name).to_ascii_lowercase());
        Self {
            listen: listen.ip(),
            names: names.collect(),
        }
    }

    /// True if `authority`, a host with or without a port, is one of them. Ports do not count: they change on the way
    /// through tunnels and containers.
    pub fn contain(&self, authority: &str) -> bool {
        let host = host_of(authority).trim_end_matches('.').to_ascii_lowercase();
        if host == "localhost" || host.ends_with(".localhost") || self.names.contains(&host) {
            return true;
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        // Nobody can make a foreign page's origin an address: it is the page of who listens there.
        bare.parse::<IpAddr>().is_ok_and(|address| {
            address.is_loopback() || address == self.listen || self.listen.is_unspecified()
        })
    }
}

/// An authority without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets, or it is nothing but an address.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            if port.bytes().all(|byte| byte.is_ascii_digit()) {
                host
            } else {
                authority
            }
        }
        _ => authority,
    }
}

/// Refuses a request for another host, and one that a page of another origin makes.
///
/// # Errors
/// 400 for a request that names no host or several, `wrong_host` (421), `cross_origin` (403).
pub fn check(
    hosts: &Hosts,
    method: &Method,
    uri: &Uri,
    version: Version,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    let host = named_host(uri, version, headers)?;
    if let Some(host) = host
        && !hosts.contain(host)
    {
        return Err(Problem::named(
            StatusCode::MISDIRECTED_REQUEST,
            "wrong_host",
            format!(
                "{host:?} is no host of this door: use its address, or name the host in `hosts` of its configuration (`drystone up --host`)"
            ),
        ));
    }
    if is_foreign(host, headers) && ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        return Err(Problem::named(
            StatusCode::FORBIDDEN,
            "cross_origin",
            "a web page of another origin may change nothing here",
        ));
    }
    Ok(())
}

/// The host that the request names; none in HTTP/1.0 without the header.
fn named_host<'a>(
    uri: &'a Uri,
    version: Version,
    headers: &'a HeaderMap,
) -> Result<Option<&'a str>, Problem> {
    let malformed = |detail: &str| Problem::new(Code::Invalid, detail);
    let mut values = headers.get_all(header::HOST).iter();
    let header = values
        .next()
        .map(|value| {
            value
                .to_str()
                .map_err(|_| malformed("Host is not printable ASCII"))
        })
        .transpose()?;
    if values.next().is_some() {
        return Err(malformed("Host stands twice"));
    }
    // A target with an authority counts before the header (RFC 9112 section 3.2.2).
    let named = uri.authority().map(http::uri::Authority::as_str).or(header);
    if named.is_none() && version >= Version::HTTP_11 {
        return Err(malformed("Host is missing"));
    }
    Ok(named)
}

/// True if a browser says that a page of another origin has made the request.
fn is_foreign(host: Option<&str>, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let own = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, authority)| authority);
    !matches!((own, host), (Some(own), Some(host)) if own.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn hosts(listen: &str, names: &[&str]) -> Hosts {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        Hosts::new(listen.parse().unwrap(), &names)
    }

    fn asked(method: Method, headers: &[(&'static str, &str)]) -> Result<(), u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let hosts = hosts("127.0.0.1:9700", &["store.example"]);
        check(&hosts, &method, &Uri::from_static("/"), Version::HTTP_11, &map).map_err(|fault| fault.status)
    }

    #[test]
    fn hosts_are_loopback_the_address_and_what_was_configured() {
        let local = hosts("127.0.0.1:9700", &["Store.example:9700"]);
        for host in [
            "localhost",
            "LocalHost:1",
            "a.localhost:9700",
            "127.0.0.1:9700",
            "127.9.9.9",
            "[::1]:9700",
            "[::1]",
            "store.example",
            "STORE.example.:80",
        ] {
            assert!(local.contain(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:9700",
            "10.0.0.1",
            "[::2]:9700",
            "x@localhost:z",
        ] {
            assert!(!local.contain(host), "{host}");
        }
        assert!(hosts("10.0.0.1:9700", &[]).contain("10.0.0.1:9700"));
        assert!(hosts("0.0.0.0:9700", &[]).contain("10.0.0.1"));
        assert!(!hosts("0.0.0.0:9700", &[]).contain("evil.example"));
    }

    #[test]
    fn a_page_that_points_its_name_here_is_not_served() {
        assert_eq!(asked(Method::GET, &[("host", "evil.example:9700")]), Err(421));
        assert_eq!(asked(Method::GET, &[]), Err(400));
        assert_eq!(
            asked(Method::GET, &[("host", "localhost"), ("host", "localhost")]),
            Err(400)
        );
        let absolute = Uri::from_static("http://evil.example/files/a");
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("localhost"));
        let hosts = hosts("127.0.0.1:9700", &[]);
        let refused = check(&hosts, &Method::GET, &absolute, Version::HTTP_11, &headers);
        assert_eq!(refused.unwrap_err().status, 421);
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        let host = ("host", "localhost:9700");
        for (name, value, served) in [
            ("sec-fetch-site", "cross-site", false),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "none", true),
            ("origin", "http://evil.example", false),
            ("origin", "null", false),
            ("origin", "http://localhost:3000", false),
            ("origin", "http://localhost:9700", true),
        ] {
            for method in [Method::PUT, Method::POST, Method::DELETE] {
                let outcome = asked(method.clone(), &[host, (name, value)]);
                assert_eq!(outcome.is_ok(), served, "{method} {name}: {value}");
            }
            assert_eq!(asked(Method::GET, &[host, (name, value)]), Ok(()));
        }
        // No browser at all.
        assert_eq!(asked(Method::PUT, &[host]), Ok(()));
    }
}
