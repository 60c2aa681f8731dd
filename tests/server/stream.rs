//! A client's stream: TCP, with TLS over it or not. What is asked of the socket (timeouts,
//! shutdown, SO_LINGER) is asked of the socket: a FIN of a TLS stream is a truncation unless
//! `close_notify` was called before.
//!
//! Reading fails when the server's FIN comes without its close_notify.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

pub struct Stream {
    tcp: TcpStream,
    pub tls: Option<Box<ClientConnection>>,
}

impl Stream {
    pub fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Stream {
        Stream::over(TcpStream::connect(address).unwrap(), tls)
    }

    /// TLS over `tcp` with these settings; without any, TCP alone.
    pub fn over(tcp: TcpStream, tls: Option<&Arc<ClientConfig>>) -> Stream {
        let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
        let connection = |config: &Arc<ClientConfig>| {
            Box::new(ClientConnection::new(config.clone(), name).unwrap())
        };
        Stream {
            tcp,
            tls: tls.map(connection),
        }
    }

    /// Tells the server that nothing more comes, in TLS.
    pub fn close_notify(&mut self) {
        let tls = self.tls.as_mut().unwrap();
        tls.send_close_notify();
        tls.write_tls(&mut self.tcp).unwrap();
    }
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Stream {
        Stream { tcp, tls: None }
    }
}

impl Deref for Stream {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.tcp
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        match &mut self.tls {
            None => self.tcp.read(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match &mut self.tls {
            None => self.tcp.write(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).write(bytes),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match &mut self.tls {
            None => self.tcp.flush(),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).flush(),
        }
    }
}
