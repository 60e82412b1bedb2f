import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Collections;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.ClassVisitor;
import org.objectweb.asm.ClassWriter;
import org.objectweb.asm.Opcodes;

/**
 * Marks a jar's classes as Java 8's, without what is of later versions: nests. ProGuard 6 and dx,
 * which are what Debian has, read no newer ones. The release build has D8, which does.
 */
public final class Lower extends ClassVisitor {
    private Lower(ClassVisitor next) {
        super(Opcodes.ASM9, next);
    }

    @Override
    public void visit(int version, int access, String name, String signature, String base, String[] interfaces) {
        super.visit(Opcodes.V1_8, access, name, signature, base, interfaces);
    }

    @Override
    public void visitNestHost(String host) {
    }

    @Override
    public void visitNestMember(String member) {
    }

    public static void main(String[] arguments) throws IOException {
        try (ZipFile jar = new ZipFile(arguments[0]);
                OutputStream file = Files.newOutputStream(Paths.get(arguments[1]));
                ZipOutputStream lowered = new ZipOutputStream(file)) {
            for (ZipEntry entry : Collections.list(jar.entries())) {
                if (!entry.getName().endsWith(".class") || entry.getName().endsWith("module-info.class")) {
                    continue;
                }
                try (InputStream stream = jar.getInputStream(entry)) {
                    ClassWriter writer = new ClassWriter(0);
                    new ClassReader(stream.readAllBytes()).accept(new Lower(writer), 0);
                    lowered.putNextEntry(new ZipEntry(entry.getName()));
                    lowered.write(writer.toByteArray());
                    lowered.closeEntry();
                }
            }
        }
    }
}
