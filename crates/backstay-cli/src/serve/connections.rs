//! Who may ask, and for how long: everything about a connection is bounded.

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

/// So many at a time; others wait at the door.
pub(super) const MOST: u32 = 256;
/// Who has not said what it wants by then is sent away.
const ASKING: Duration = Duration::from_secs(5);
/// Who has not taken its answer by then, from the first byte on, loses it. A connection carries one request, so nobody
/// keeps a place for longer.
const LIFE: Duration = Duration::from_secs(10);
/// Of those whose answer is under way when the end begins.
const FAREWELL: Duration = Duration::from_secs(1);
/// Of a request's head, in bytes and in lines.
const HEAD: usize = 16 << 10;
const LINES: usize = 64;

/// The places for connections; all of them are free when everybody is gone.
#[derive(Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Places {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MOST as usize)))
    }

    fn taken(&self) -> usize {
        MOST as usize - self.0.available_permits()
    }

    /// Waits until everybody is gone.
    pub(super) async fn empty(self) {
        // Never closed.
        let _ = self.0.acquire_many(MOST).await;
    }
}

/// Takes connections for as long as it is polled; each ends soon after `ended` says so.
pub(super) async fn accept<E>(listener: TcpListener, places: Places, site: Shared, ended: impl Fn() -> E)
where
    E: Future<Output = ()> + Send + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, for one: others have to end first.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places.0).acquire_owned().await else { return };
        let (site, places, ended) = (Arc::clone(&site), places.clone(), ended());
        tokio::spawn(async move {
            let _ = timeout(LIFE, serve(stream, site, &places, ended)).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, site: Shared, places: &Places, ended: impl Future<Output = ()>) {
    let answer = service_fn(|request| ready(Ok::<_, Infallible>(site.answer(&request, places.taken()))));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .header_read_timeout(ASKING)
            .max_buf_size(HEAD)
            .max_headers(LINES)
            .serve_connection(TokioIo::new(stream), answer)
    );
    let farewell = async {
        ended.await;
        sleep(FAREWELL).await;
    };
    tokio::select! {
        _ = &mut connection => {}
        () = farewell => {}
    }
}
