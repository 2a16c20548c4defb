import java.net.*;
import java.net.http.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.nio.file.*;
import java.util.concurrent.*;

public class Program {
    public static void main(String[] arguments) throws Exception {
        var pool = Executors.newFixedThreadPool(8);
        for (int i = 0; i < 8; i++) pool.submit(() -> Thread.currentThread().setName("worker")).get();
        pool.shutdown();
        var echoed = new ProcessBuilder("/bin/echo", "x").start();
        check(new String(echoed.getInputStream().readAllBytes()).equals("x\n") && echoed.waitFor() == 0);

        var server = com.sun.net.httpserver.HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, 5);
            exchange.getResponseBody().write("hello".getBytes());
            exchange.close();
        });
        server.start();
        var uri = URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/");
        var client = HttpClient.newHttpClient();
        var answer = client.send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofString());
        check(answer.body().equals("hello"));
        server.stop(0);
        check(NetworkInterface.getNetworkInterfaces().hasMoreElements());
        check(NetworkInterface.getByName("lo").getMTU() > 0);
        InetAddress.getByName("localhost");
        new DatagramSocket().close();
        try (var channel = DatagramChannel.open()) {
            channel.bind(new InetSocketAddress("127.0.0.1", 0));
            channel.send(ByteBuffer.wrap(new byte[1]), channel.getLocalAddress());
        }
        try (var socket = new Socket()) {
            socket.setKeepAlive(true);
            socket.setTcpNoDelay(true);
            socket.setSoLinger(true, 1);
            socket.setOption(jdk.net.ExtendedSocketOptions.TCP_KEEPIDLE, 10);
        }

        var file = Files.writeString(Path.of("/tmp/a"), "x");
        Files.copy(file, Path.of("/tmp/b"));
        Files.move(Path.of("/tmp/b"), Path.of("/tmp/c"));
        Files.setLastModifiedTime(file, java.nio.file.attribute.FileTime.fromMillis(0));
        check(Files.getFileStore(file).getTotalSpace() > 0);
        try (var channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            var mapped = channel.map(FileChannel.MapMode.READ_WRITE, 0, 4096);
            mapped.put(0, (byte) 1);
            mapped.force();
            channel.lock().release();
        }
        try (var watcher = FileSystems.getDefault().newWatchService()) {
            Path.of("/tmp").register(watcher, StandardWatchEventKinds.ENTRY_CREATE);
        }
        java.security.SecureRandom.getInstanceStrong().nextInt();
        System.gc();
        check(java.lang.management.ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage() >= 0);
        System.out.println("works");
        System.exit(0);
    }

    static void check(boolean holds) {
        if (!holds) throw new AssertionError();
    }
}
