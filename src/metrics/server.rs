//! The server: HTTP/1, one question a connection, few connections at a time, and no patience with slow ones.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{sleep, timeout};

use super::family::Family;
use super::guard::is_expected;
use super::text;

/// Connections served at a time: a few collectors and a person. For another the oldest goes that has not asked anything.
pub const CONNECTIONS_MAX: usize = 16;
/// How long one connection may take from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the head of a request may take: whoever asks sends it at once.
const HEAD_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a request's head; collectors send a few hundred.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// How long a page is good for whoever asks again: nobody needs to ask more often.
const FRESH: Duration = Duration::from_millis(500);
/// How long after a failure to listen it is tried again: soon, for whoever is just going; then less and less often.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// After a failure to accept: no descriptor is free, and more tries would only burn the processor.
const BREATH: Duration = Duration::from_millis(200);
const PLAIN: &str = "text/plain; charset=utf-8";

/// The answer to a watchdog's question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether all is well.
    pub ok: bool,
    /// Why not, or that it is; one line.
    pub message: String,
}

/// Who knows what is asked.
pub trait Source: Send + Sync + 'static {
    /// Everything measured.
    fn families(&self) -> Vec<Family>;
    /// Whether the process lives and its threads move.
    fn health(&self) -> State;
    /// Whether it does its work.
    fn readiness(&self) -> State;
    /// It is listened from now on, or it cannot be and is tried again.
    fn listens(&self, at: SocketAddr, error: Option<&std::io::Error>);
}

/// The running server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

type Page = Arc<Mutex<Option<(Instant, Bytes)>>>;

impl Server {
    /// Serves what `source` knows at an address, as soon as it is free.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(at: SocketAddr, source: Arc<dyn Source>) -> std::io::Result<Server> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut end = stopped.clone();
                tokio::select! {
                    () = serve(at, source) => {}
                    _ = end.wait_for(|stop| *stop) => {}
                }
            });
            // Whoever is still connected is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Server { stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if the thread has ended.
        let _ = self.stop.send(true);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the metrics panicked");
        }
    }
}

async fn serve(at: SocketAddr, source: Arc<dyn Source>) {
    let listener = listen(at, &*source).await;
    let (mut guests, page) = (Guests::default(), Page::default());
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("cannot accept a client of the metrics: {error}");
                sleep(BREATH).await;
                continue;
            }
        };
        guests.make_room();
        let asked = Arc::new(AtomicBool::new(false));
        let talk = talk(stream, Arc::clone(&source), Arc::clone(&page), Arc::clone(&asked));
        // Late is gone.
        let task = tokio::spawn(async { drop(timeout(PATIENCE, talk).await) }).abort_handle();
        guests.0.push_back(Guest { task, asked });
        // Whoever has asked already is heard before the next takes its place.
        yield_now().await;
    }
}

/// Who is connected, the oldest first.
#[derive(Default)]
struct Guests(VecDeque<Guest>);

struct Guest {
    task: AbortHandle,
    /// Its question is there.
    asked: Arc<AtomicBool>,
}

impl Guests {
    /// Sends somebody away if all places are taken: the oldest that has not asked, or whoever takes longest to listen.
    fn make_room(&mut self) {
        self.0.retain(|guest| !guest.task.is_finished());
        if self.0.len() < CONNECTIONS_MAX {
            return;
        }
        let silent = self.0.iter().position(|guest| !guest.asked.load(Relaxed));
        if let Some(guest) = self.0.remove(silent.unwrap_or_default()) {
            guest.task.abort();
        }
    }
}

async fn listen(at: SocketAddr, source: &dyn Source) -> TcpListener {
    let (mut told, mut pause) = (false, RETRY_MIN);
    loop {
        match TcpListener::bind(at).await {
            Ok(listener) => {
                source.listens(listener.local_addr().unwrap_or(at), None);
                return listener;
            }
            Err(error) if !std::mem::replace(&mut told, true) => source.listens(at, Some(&error)),
            Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn talk(stream: TcpStream, source: Arc<dyn Source>, page: Page, asked: Arc<AtomicBool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        asked.store(true, Relaxed);
        let answer = answer(&request, &*source, &page);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!("a client of the metrics: {error}");
    }
}

fn answer(request: &Request<Incoming>, source: &dyn Source, page: &Page) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_expected) || hosts.next().is_some() {
        let text = "ask by an address, or as localhost: a name may be anybody's";
        return plain(StatusCode::FORBIDDEN, text);
    }
    match request.uri().path() {
        "/metrics" => metrics(source, page),
        "/healthz" => state(&source.health()),
        "/readyz" => state(&source.readiness()),
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz"),
    }
}

fn state(state: &State) -> Response<Full<Bytes>> {
    let status = if state.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    plain(status, &state.message.replace('\n', " "))
}

fn metrics(source: &dyn Source, page: &Page) -> Response<Full<Bytes>> {
    let mut kept = page.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = kept.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, page)| page.clone());
    let page = match fresh {
        Some(page) => page,
        None => match text::encode(source.families()) {
            Ok(text) => kept.insert((Instant::now(), Bytes::from(text))).1.clone(),
            Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        },
    };
    respond(StatusCode::OK, text::CONTENT_TYPE, page)
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    respond(status, PLAIN, Bytes::from(format!("{text}\n")))
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
#[path = "server_test.rs"]
mod tests;
