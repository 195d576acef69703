mod items;
mod retries;
