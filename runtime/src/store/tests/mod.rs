mod retries;
