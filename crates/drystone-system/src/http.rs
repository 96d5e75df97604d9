//! HTTP/1.1 as the simplest program speaks it: blocking, one connection, bodies that stream.

use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The longest silence of a server before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);
const PIECE: usize = 256 << 10;

/// A server, and a connection to it that is kept as long as it lasts.
pub struct Http {
    address: String,
    connection: Option<BufReader<TcpStream>>,
}

/// An answer with its whole body.
#[derive(Debug)]
pub struct HttpAnswer {
    /// Its status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// The body.
    ///
    /// # Panics
    /// If the status is another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Vec<u8> {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.body
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is something else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Http {
    /// Speaks to `http://HOST:PORT` or `HOST:PORT`.
    pub fn new(url: &str) -> Self {
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Self {
            address,
            connection: None,
        }
    }

    /// `GET`.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> HttpAnswer {
        self.ask("GET", path, &[], b"")
    }

    /// `PUT` of bytes.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    pub fn put(&mut self, path: &str, body: &[u8]) -> HttpAnswer {
        self.ask("PUT", path, &[], body)
    }

    /// Any request.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> HttpAnswer {
        match self.try_ask(method, path, headers, body.len() as u64, &mut &body[..]) {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    /// Any request, with a body that streams.
    ///
    /// # Errors
    /// If the connection breaks or what comes is no answer.
    pub fn try_ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        length: u64,
        body: &mut dyn Read,
    ) -> io::Result<HttpAnswer> {
        let mut whole = Vec::new();
        let (status, headers) = self.stream(method, path, headers, length, body, &mut whole)?;
        Ok(HttpAnswer {
            status,
            headers,
            body: whole,
        })
    }

    /// Any request, with bodies that stream in both directions.
    ///
    /// # Errors
    /// If the connection breaks or what comes is no answer.
    pub fn stream(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        length: u64,
        body: &mut dyn Read,
        out: &mut dyn Write,
    ) -> io::Result<(u16, Vec<(String, String)>)> {
        // A connection that a fault leaves half used is not used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::with_capacity(PIECE, connect(&self.address)?),
        };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n",
            self.address
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        connection.get_mut().write_all(head.as_bytes())?;
        let sent = copy(body, connection.get_mut(), length);
        // A server that refuses may answer before it has heard all.
        let (status, headers) = match (read_head(&mut connection), sent) {
            (Ok(head), _) => head,
            (Err(_), Err(fault)) | (Err(fault), Ok(())) => return Err(fault),
        };
        let find = |name: &str| {
            headers
                .iter()
                .find(|(other, _)| other == name)
                .map(|(_, value)| value.as_str())
        };
        if find("transfer-encoding").is_some() {
            return Err(fault("a body of a length told beforehand was expected"));
        }
        if method != "HEAD" && status != 204 && status != 304 {
            let length = find("content-length").and_then(|text| text.parse().ok());
            copy(
                &mut connection,
                out,
                length.ok_or_else(|| fault("the answer has no length"))?,
            )?;
        }
        // A server need not read the body of what it refuses.
        let is_refused = status >= 400 && length > 0;
        if find("connection") != Some("close") && !is_refused {
            self.connection = Some(connection);
        }
        Ok((status, headers))
    }
}

/// Opens a connection that does not wait for ever.
///
/// # Errors
/// If nothing listens.
pub fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads status and headers.
///
/// # Errors
/// If what comes is no answer.
pub fn read_head(from: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|text| text.parse().ok());
    let status = status.ok_or_else(|| fault(&format!("{line:?} is no status line")))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Err(fault("the answer ends in its head"));
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => return Ok((status, headers)),
        }
    }
}

fn copy(from: &mut dyn Read, to: &mut dyn Write, length: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE.min(length as usize)];
    let mut left = length;
    while left > 0 {
        let room = piece.len().min(left as usize);
        let count = from.read(&mut piece[..room])?;
        if count == 0 {
            return Err(fault(&format!("the body ends {left} bytes early")));
        }
        to.write_all(&piece[..count])?;
        left -= count as u64;
    }
    Ok(())
}

fn fault(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// A path as it stands in a URL.
pub fn encode(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    path.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
