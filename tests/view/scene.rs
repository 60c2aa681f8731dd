//! A server in this process, and clients that keep it busy.

use ringmail::blocking::Client;
use ringmail::{Config, Running, Server};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub struct Scene {
    running: Option<Running>,
    pub admin: SocketAddr,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Scene {
    /// Two shards; an admin address of its own, or this one again.
    pub fn start(admin: Option<SocketAddr>) -> Scene {
        let admin = admin.map_or("127.0.0.1:0".to_owned(), |admin| admin.to_string());
        let text = format!(
            "[server]\nlisten = '127.0.0.1:0'\nadmin = '{admin}'\nshards = [0, 1]\ndrain_timeout_ms = 2000\n"
        );
        let config = Config::from_toml(&text).unwrap();
        let running = Server::builder().config(config).start().unwrap();
        let mut scene = Scene {
            admin: running.admin_address().unwrap(),
            running: None,
            stop: Arc::default(),
            clients: Vec::new(),
        };
        let server = running.address().to_string();
        scene.running = Some(running);
        for number in 0..3 {
            scene.listen(&server, number);
        }
        for number in 0..3 {
            scene.publish(&server, number);
        }
        scene
    }

    fn run(
        &mut self,
        server: &str,
        name: String,
        mut work: impl FnMut(&mut Client) + Send + 'static,
    ) {
        let builder = Client::builder().client_id(&name);
        let mut client = builder.connect(server).unwrap();
        // A drain may end it first.
        let _ = client.subscribe(&format!("of/{name}"));
        let stop = self.stop.clone();
        self.clients.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) && client.is_connected() {
                work(&mut client);
            }
        }));
    }

    fn listen(&mut self, server: &str, number: usize) {
        let mut begun = false;
        self.run(server, format!("display-{number}"), move |client| {
            if !begun {
                begun = client.subscribe("site/#").is_ok();
            }
            let _ = client.receive_timeout(Duration::from_millis(50));
        });
    }

    fn publish(&mut self, server: &str, number: usize) {
        let topic = format!("site/{number}/<b>reading</b>");
        self.run(server, format!("sensor-{number}"), move |client| {
            for _ in 0..=number {
                let _ = client.publish(&topic, "21.5");
            }
            let _ = client.request("$sys/time", "");
            std::thread::sleep(Duration::from_millis(5));
        });
    }

    /// Clients end, then the server.
    pub fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().unwrap();
        }
        if let Some(running) = self.running.take() {
            running.drain();
            running.wait().unwrap();
        }
    }
}
