using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Text.RegularExpressions;

namespace PsHost
{
    /// <summary>The public types and members of .NET Framework 4.8, from its reference assemblies beside this program.</summary>
    sealed class Net48
    {
        const int AnyNumber = -1;
        /// <summary>Of a type: the names of its members, with the number of arguments a method takes.</summary>
        readonly Dictionary<string, HashSet<(string Name, int Arguments)>> _members = new(StringComparer.OrdinalIgnoreCase);

        public static Net48 Load()
        {
            var found = new Net48();
            foreach (var file in Directory.GetFiles(Path.Combine(AppContext.BaseDirectory, "net48"), "*.dll")) found.Read(file);
            return found;
        }

        public bool HasType(string name) => name != null && _members.ContainsKey(WithoutArguments(name));

        /// <summary>arguments is null for a property or a field.</summary>
        public bool HasMember(string type, string member, int? arguments) =>
            !_members.TryGetValue(WithoutArguments(type), out var members) ||
            members.Any(one => one.Name.Equals(member, StringComparison.OrdinalIgnoreCase) && (arguments == null || one.Arguments == AnyNumber || one.Arguments == arguments));

        static string WithoutArguments(string type) => Regex.Replace(type, @"\[.*$", "");

        void Read(string file)
        {
            using var assembly = new PEReader(File.OpenRead(file));
            var reader = assembly.GetMetadataReader();
            foreach (var handle in reader.TypeDefinitions)
            {
                var type = reader.GetTypeDefinition(handle);
                var visibility = type.Attributes & TypeAttributes.VisibilityMask;
                if (visibility is not (TypeAttributes.Public or TypeAttributes.NestedPublic)) continue;
                var name = FullName(reader, type);
                if (!_members.TryGetValue(name, out var members)) _members[name] = members = new();
                foreach (var one in type.GetMethods())
                {
                    var method = reader.GetMethodDefinition(one);
                    if ((method.Attributes & MethodAttributes.MemberAccessMask) != MethodAttributes.Public) continue;
                    members.Add((reader.GetString(method.Name), TakesAny(reader, method) ? AnyNumber : Arguments(reader, method)));
                }
                foreach (var one in type.GetProperties()) members.Add((reader.GetString(reader.GetPropertyDefinition(one).Name), AnyNumber));
                foreach (var one in type.GetFields()) members.Add((reader.GetString(reader.GetFieldDefinition(one).Name), AnyNumber));
            }
        }

        static string FullName(MetadataReader reader, TypeDefinition type)
        {
            var name = reader.GetString(type.Name);
            while (!type.GetDeclaringType().IsNil)
            {
                type = reader.GetTypeDefinition(type.GetDeclaringType());
                name = reader.GetString(type.Name) + "+" + name;
            }
            var space = reader.GetString(type.Namespace);
            return space.Length > 0 ? space + "." + name : name;
        }

        static int Arguments(MetadataReader reader, MethodDefinition method)
        {
            var signature = reader.GetBlobReader(method.Signature);
            if (signature.ReadSignatureHeader().IsGeneric) signature.ReadCompressedInteger();
            return signature.ReadCompressedInteger();
        }

        static bool TakesAny(MetadataReader reader, MethodDefinition method) =>
            method.GetParameters().SelectMany(one => reader.GetParameter(one).GetCustomAttributes()).Any(one => AttributeName(reader, one) == "ParamArrayAttribute");

        static string AttributeName(MetadataReader reader, CustomAttributeHandle handle)
        {
            var constructor = reader.GetCustomAttribute(handle).Constructor;
            var parent = constructor.Kind == HandleKind.MethodDefinition
                ? reader.GetMethodDefinition((MethodDefinitionHandle)constructor).GetDeclaringType()
                : reader.GetMemberReference((MemberReferenceHandle)constructor).Parent;
            return parent.Kind switch
            {
                HandleKind.TypeDefinition => reader.GetString(reader.GetTypeDefinition((TypeDefinitionHandle)parent).Name),
                HandleKind.TypeReference => reader.GetString(reader.GetTypeReference((TypeReferenceHandle)parent).Name),
                _ => "",
            };
        }
    }
}
