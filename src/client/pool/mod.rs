mod lease;
mod maker;
mod settings;
mod status;
mod stock;
mod task;
#[cfg(test)]
mod tests;
