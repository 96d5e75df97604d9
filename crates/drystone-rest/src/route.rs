//! Which resource a request is about, and what may be done to it.

use crate::call::{Call, split};
use crate::door::Door;
use crate::{OPENAPI, cluster, directories, files, links, metadata, respond};
use drystone_client::Code;
use drystone_gateway::response::close;
use drystone_gateway::{Operation, Problem, RequestBody, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

/// Answers one request, whatever it is.
pub async fn answer(door: &Door, request: http::Request<RequestBody>) -> Response {
    let is_head = request.method() == Method::HEAD;
    let (head, mut body) = request.into_parts();
    let target = (head.uri.path(), head.uri.query().unwrap_or_default());
    let outcome = dispatch(door, &head.method, target, &head.headers, &mut body).await;
    let mut response = outcome.unwrap_or_else(|fault| fault.response());
    if !body.drain(&*door.env.clock).await {
        close(&mut response);
    }
    response
        .extensions_mut()
        .insert(operation(target.0, &head.method));
    if is_head {
        respond::without_body(response)
    } else {
        response
    }
}

/// What a request is called in metrics.
fn operation(path: &str, method: &Method) -> Operation {
    let (resource, rest) = split(path);
    Operation(match (resource, rest.is_some(), method.as_str()) {
        ("files", true, "GET" | "HEAD") => "read_file",
        ("files", true, "PUT") => "write_file",
        ("files", true, "POST") => "create_file",
        ("files", true, "DELETE") => "delete_file",
        ("directories", true, "GET" | "HEAD") => "list_directory",
        ("directories", true, "POST") => "make_directory",
        ("directories", true, "DELETE") => "delete_directory",
        ("metadata", true, "GET" | "HEAD") => "read_metadata",
        ("metadata", true, "PUT") => "change_metadata",
        ("links", true, "GET" | "HEAD") => "read_link",
        ("links", true, "POST" | "PUT") => "make_link",
        ("cluster", false, "GET" | "HEAD") => "cluster",
        ("status", false, "GET" | "HEAD") => "status",
        ("openapi.json" | "", false, "GET" | "HEAD") => "description",
        _ => "unknown",
    })
}

/// The query parameters that a method of a resource knows.
///
/// # Errors
/// The methods that it has, if this is none of them; `None` if there is no such resource.
pub(crate) fn parameters(
    resource: &str,
    has_path: bool,
    method: &Method,
) -> Result<&'static [&'static str], Option<&'static str>> {
    Ok(match (resource, has_path, method.as_str()) {
        ("files", true, "GET" | "HEAD" | "DELETE") => &[],
        ("files", true, "PUT") => &["parents"],
        ("files", true, "POST") => &["parents", "append"],
        ("files", true, _) => return Err(Some("GET, HEAD, PUT, POST, DELETE")),
        ("directories", true, "GET" | "HEAD") => &["limit", "after"],
        ("directories", true, "POST") => &["parents"],
        ("directories", true, "DELETE") => &["recursive"],
        ("directories", true, _) => return Err(Some("GET, HEAD, POST, DELETE")),
        ("metadata", true, "GET" | "HEAD") => &["extents"],
        ("metadata", true, "PUT") => &[],
        ("metadata", true, _) => return Err(Some("GET, HEAD, PUT")),
        ("links", true, "GET" | "HEAD") => &[],
        ("links", true, "POST" | "PUT") => &["parents"],
        ("links", true, _) => return Err(Some("GET, HEAD, POST, PUT")),
        ("cluster" | "status" | "openapi.json" | "", false, "GET" | "HEAD") => &[],
        ("cluster" | "status" | "openapi.json" | "", false, _) => return Err(Some("GET, HEAD")),
        _ => return Err(None),
    })
}

async fn dispatch(
    door: &Door,
    method: &Method,
    (path, query): (&str, &str),
    headers: &HeaderMap,
    body: &mut RequestBody,
) -> Result<Response, Problem> {
    let (resource, rest) = split(path);
    let known = match parameters(resource, rest.is_some(), method) {
        Ok(known) => known,
        Err(Some(allowed)) => return not_allowed(allowed),
        Err(None) => {
            return Err(Problem::new(
                Code::NotFound,
                format!(
                    "{path} is no resource: there are /files/, /directories/, /links/, /metadata/, /cluster, /status and /openapi.json"
                ),
            ));
        }
    };
    let call = || Call::understand(door, method, (path, query), headers, known);
    match (resource, method.as_str()) {
        ("files", "PUT") => files::replace(call()?, body).await,
        ("files", "POST") => files::create(call()?, body).await,
        ("files", "DELETE") => files::delete(call()?).await,
        ("files", _) => files::read(call()?).await,
        ("directories", "POST") => directories::create(call()?).await,
        ("directories", "DELETE") => directories::delete(call()?).await,
        ("directories", _) => directories::list(call()?).await,
        ("metadata", "PUT") => metadata::change(call()?, body).await,
        ("metadata", _) => metadata::show(call()?).await,
        ("links", "POST" | "PUT") => links::make(call()?, body).await,
        ("links", _) => links::read(call()?).await,
        ("cluster", _) => cluster::show(&call()?.client).await,
        ("status", _) => cluster::status(&call()?.client).await,
        ("openapi.json", _) => Ok(respond::bytes(StatusCode::OK, "application/json", OPENAPI)),
        _ => cluster::welcome(),
    }
}

fn not_allowed(allowed: &'static str) -> Result<Response, Problem> {
    let fault = Problem::with_status(
        StatusCode::METHOD_NOT_ALLOWED,
        Code::Invalid,
        format!("this resource answers {allowed}"),
    );
    let mut response = fault.response();
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    Ok(response)
}
