-- What the administrator laid out on the first primary, before any replica. Passwords of the lab are no secrets.
SET NAMES utf8mb4;

CREATE DATABASE mail;
CREATE TABLE mail.domains (
  name VARCHAR(190) PRIMARY KEY
) ENGINE=InnoDB;
CREATE TABLE mail.users (
  email    VARCHAR(190) PRIMARY KEY,
  domain   VARCHAR(190) NOT NULL,
  password VARCHAR(190) NOT NULL,
  active   TINYINT      NOT NULL DEFAULT 1,
  CONSTRAINT users_domain FOREIGN KEY (domain) REFERENCES mail.domains (name)
) ENGINE=InnoDB;
INSERT INTO mail.domains VALUES ('lab.test');

CREATE DATABASE app;
CREATE TABLE app.writes (
  id    VARCHAR(64) PRIMARY KEY,
  at_ms BIGINT NOT NULL
) ENGINE=InnoDB;

CREATE DATABASE IF NOT EXISTS failoverd;
CREATE TABLE IF NOT EXISTS failoverd.heartbeat (
  id   TINYINT PRIMARY KEY,
  term BIGINT NOT NULL,
  beat BIGINT NOT NULL
) ENGINE=InnoDB;
INSERT IGNORE INTO failoverd.heartbeat VALUES (1, 0, 0);
CREATE TABLE IF NOT EXISTS failoverd.journal (
  term     BIGINT PRIMARY KEY,
  holder   VARCHAR(64)  NOT NULL,
  previous VARCHAR(64)  NULL,
  gtid     VARCHAR(512) NOT NULL,
  reason   VARCHAR(255) NOT NULL
) ENGINE=InnoDB;

-- Dovecot and Postfix look users up on their own host's server, replica or not.
CREATE USER 'mail_reader'@'localhost' IDENTIFIED BY 'mail-reader-lab-password';
GRANT SELECT ON mail.* TO 'mail_reader'@'localhost';

CREATE USER 'app'@'10.89.1.%' IDENTIFIED BY 'app-lab-password';
GRANT SELECT, INSERT, UPDATE, DELETE ON app.* TO 'app'@'10.89.1.%';
