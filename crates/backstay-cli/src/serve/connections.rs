//! Accepts connections, with a limit on their number, duration and size of request.

use std::convert::Infallible;
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::site::Shared;

/// Maximum number of connections at a time; further ones wait to be accepted.
pub(super) const MAX_CONNECTIONS: u32 = 256;
/// Time limit for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for a whole connection, which carries one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for open connections after the shutdown has begun.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// Limits of a request's head.
const MAX_HEADER_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// The slots for connections. All of them are free when all connections are closed.
#[derive(Clone)]
pub(super) struct ConnectionSlots(Arc<Semaphore>);

impl ConnectionSlots {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CONNECTIONS as usize)))
    }

    fn taken(&self) -> usize {
        MAX_CONNECTIONS as usize - self.0.available_permits()
    }

    /// Waits until all connections are closed.
    pub(super) async fn all_free(self) {
        // The semaphore is never closed.
        let _ = self.0.acquire_many(MAX_CONNECTIONS).await;
    }
}

/// Accepts connections until it is dropped. Each connection ends soon after `ended` completes.
pub(super) async fn accept<E>(listener: TcpListener, slots: ConnectionSlots, site: Shared, ended: impl Fn() -> E)
where
    E: Future<Output = ()> + Send + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // For example too many open files: waits for other connections to close.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots.0).acquire_owned().await else { return };
        let (site, slots, ended) = (Arc::clone(&site), slots.clone(), ended());
        tokio::spawn(async move {
            let _ = timeout(CONNECTION_TIMEOUT, serve(stream, site, &slots, ended)).await;
            drop(slot);
        });
    }
}

async fn serve(stream: TcpStream, site: Shared, slots: &ConnectionSlots, ended: impl Future<Output = ()>) {
    let answer = service_fn(|request| ready(Ok::<_, Infallible>(site.answer(&request, slots.taken()))));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), answer)
    );
    let grace_over = async {
        ended.await;
        sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        _ = &mut connection => {}
        () = grace_over => {}
    }
}
