import java.nio.charset.StandardCharsets;
import java.util.Properties;
import java.util.Scanner;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A foreign client: sends each line of standard input as one record and prints where it went.
 *
 * <p>Arguments: bootstrap servers, topic, "key" (a line is "key TAB value"; Kafka's own partitioner hashes the key) or
 * "none" (a line is the value; Kafka's own partitioner chooses). Compiled with: javac --release 17.
 */
public final class JsonProducer {
  public static void main(String[] arguments) throws Exception {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", arguments[0]);
    settings.put("acks", "all");
    settings.put("key.serializer", StringSerializer.class.getName());
    settings.put("value.serializer", StringSerializer.class.getName());
    try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings);
        Scanner lines = new Scanner(System.in, StandardCharsets.UTF_8)) {
      while (lines.hasNextLine()) {
        String line = lines.nextLine();
        int tab = arguments[2].equals("key") ? line.indexOf('\t') : -1;
        String key = tab < 0 ? null : line.substring(0, tab);
        var sent = producer.send(new ProducerRecord<>(arguments[1], key, line.substring(tab + 1))).get();
        System.out.println(sent.partition() + " " + sent.offset());
      }
    }
  }
}
