//! The peer to beat: an echo of whole messages on tokio, as its users would write it, at its fair best.
//!
//! One current-thread runtime, one task per connection, `LengthDelimitedCodec` reading ringmail's message header
//! (PROTOCOL.md section 2: length at offset 4, 32 bits, big-endian, payload after 8 bytes) with the header kept, so that
//! a frame goes back as it came.
//!
//! Why this is fast: `forward` takes every frame that one read brought, and flushes only when the next read would
//! wait, so that a burst costs one read and one write; tokio knows from a short read that the socket is empty and spares
//! the second one. The halves are borrowed (`TcpStream::split`), with no lock or count between them. Tried in turn with
//! this, and no faster: feeding all ready frames by hand and flushing once (1 to 3 % more), 32 KiB read buffers.

use std::io;
use std::net::TcpListener;

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::codec::{BytesCodec, FramedRead, FramedWrite, LengthDelimitedCodec};

const HEADER_BYTES: usize = 8;
/// ringmail's default `limits.message_bytes_max`: payload alone, as the header states it.
const PAYLOAD_BYTES_MAX: usize = 1_048_576;

/// Serves plain TCP: bytes are sent as they are.
///
/// # Errors
/// No runtime, or a listener that accepts no more.
pub fn serve(
    listener: TcpListener,
    ready: impl FnOnce(&TcpListener) -> io::Result<()>,
) -> io::Result<()> {
    serve_by(listener, ready, |mut stream: TcpStream| async move {
        let (read, write) = stream.split();
        echo(read, write).await;
    })
}

/// Gives each connection to `connection`, in a task of its own.
///
/// # Errors
/// As [`serve`].
pub fn serve_by<F>(
    listener: TcpListener,
    ready: impl FnOnce(&TcpListener) -> io::Result<()>,
    connection: impl Fn(TcpStream) -> F + Send + 'static,
) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        ready(&listener)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        // A spawned acceptor, not the future of `block_on`: that one is polled on every turn of the runtime.
        let acceptor = tokio::spawn(accept(listener, connection));
        acceptor.await.map_err(io::Error::other)?
    })
}

async fn accept<F>(
    listener: tokio::net::TcpListener,
    connection: impl Fn(TcpStream) -> F,
) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream));
            }
            // The client gave up before its turn came; the next one has not.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Echoes messages until the peer goes.
pub async fn echo(read: impl AsyncRead, write: impl AsyncWrite) {
    let messages = LengthDelimitedCodec::builder()
        .big_endian()
        .length_field_offset(4)
        .length_field_length(4)
        .length_adjustment(HEADER_BYTES as isize)
        .num_skip(0)
        .max_frame_length(PAYLOAD_BYTES_MAX)
        .new_codec();
    // A peer that vanishes or sends nonsense loses its connection; a benchmark has nobody to tell.
    let _ = FramedRead::new(read, messages)
        .forward(FramedWrite::new(write, BytesCodec::new()))
        .await;
}
